"""Draw people into an image: z-buffer, procedural clothes, skin, hair and face, light. numba, no OpenGL.

Camera frame: x right, y down, z forward, metres.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float32]
NOBODY = -1


@dataclass(slots=True)
class Buffers:
    """What is visible at each pixel: depth, who, which face and where on it."""

    depth: Array  # (h, w), +inf where nobody is
    person: NDArray[np.int16]  # (h, w), NOBODY where nobody is
    face: NDArray[np.int32]  # (h, w)
    bary: Array  # (h, w, 2), weights of the second and third corner

    @staticmethod
    def empty(height: int, width: int) -> "Buffers":
        """Nobody anywhere."""
        return Buffers(
            np.full((height, width), np.inf, np.float32),
            np.full((height, width), NOBODY, np.int16),
            np.zeros((height, width), np.int32),
            np.zeros((height, width, 2), np.float32),
        )


def rasterise(
    buffers: Buffers,
    vertices: Array,
    faces: NDArray[np.int32],
    focal: float,
    centre: tuple[float, float],
    who: int,
) -> None:
    """Draw one mesh (v, 3), camera frame, into the buffers; `focal` and `centre` in pixels."""
    inverse_z = 1.0 / np.maximum(vertices[:, 2], 0.05)
    points = np.empty((len(vertices), 3), np.float32)
    points[:, 0] = vertices[:, 0] * inverse_z * focal + centre[0]
    points[:, 1] = vertices[:, 1] * inverse_z * focal + centre[1]
    points[:, 2] = vertices[:, 2]
    _fill(points, faces, buffers.depth, buffers.person, buffers.face, buffers.bary, who)


@njit(cache=True)
def _fill(points, faces, depth, person, face_map, bary, who):
    height, width = depth.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        if min(az, bz, cz) < 0.1:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= 0:  # image y points down: faces towards the camera have negative area
            continue
        x0 = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - 0.5)), width - 1)
        y0 = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        y1 = min(int(np.floor(max(ay, by, cy) - 0.5)), height - 1)
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                w1 = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
                w2 = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
                if w1 < 0 or w2 < 0 or w1 + w2 > 1:
                    continue
                z = az + w1 * (bz - az) + w2 * (cz - az)
                if z < depth[y, x]:
                    depth[y, x] = z
                    person[y, x] = who
                    face_map[y, x] = f
                    bary[y, x, 0] = w1
                    bary[y, x, 1] = w2


@njit(cache=True)
def shade(image, person, face_map, bary, who, faces, rest, normals, look, light):
    """Paint one person's pixels of a float image (h, w, 3), RGB 0-1, in place. numba kernel.

    Args: the buffers; `rest` (v, 3) T-pose positions that place the clothes; `normals` (v, 3) camera frame;
    `look` the numbers of `Look.packed`; `light` = direction towards the light (3), ambient, strength.
    """
    height, width = person.shape
    for y in range(height):
        for x in range(width):
            if person[y, x] != who:
                continue
            f = face_map[y, x]
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            w1, w2 = bary[y, x, 0], bary[y, x, 1]
            w0 = 1 - w1 - w2
            px = w0 * rest[a, 0] + w1 * rest[b, 0] + w2 * rest[c, 0]
            py = w0 * rest[a, 1] + w1 * rest[b, 1] + w2 * rest[c, 1]
            pz = w0 * rest[a, 2] + w1 * rest[b, 2] + w2 * rest[c, 2]
            nx = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
            ny = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
            nz = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
            red, green, blue, gloss = _surface(px, py, pz, look)
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-6
            lambert = (nx * light[0] + ny * light[1] + nz * light[2]) / length
            facing = -nz / length
            level = light[3] + light[4] * max(lambert, 0.0) + 0.12 * max(-ny / length, 0.0)
            level *= 0.72 + 0.28 * min(max(facing, 0.0) * 1.6, 1.0)
            shine = gloss * max(lambert, 0.0) ** 12
            image[y, x, 0] = min(red * level + shine, 1.0)
            image[y, x, 1] = min(green * level + shine, 1.0)
            image[y, x, 2] = min(blue * level + shine, 1.0)


@njit(cache=True)
def _wave(value):
    return value - np.floor(value)


@njit(cache=True)
def _pattern(kind, scale, px, py, pz):
    """0 or 1 (or between): how much of the second colour shows."""
    if kind == 1:  # hoops
        return 1.0 if _wave(py * scale + 0.3 * px) < 0.4 else 0.0
    if kind == 2:  # pinstripes
        return 1.0 if _wave((px + 0.7 * pz) * scale * 1.5) < 0.3 else 0.0
    if kind == 3:  # checks
        first = 1.0 if _wave(py * scale) < 0.5 else 0.0
        second = 1.0 if _wave((px + 0.5 * pz) * scale) < 0.5 else 0.0
        return 0.5 * (first + second)
    if kind == 4:  # a badge on the chest
        return 1.0 if abs(px) < 0.085 and abs(py - 0.12) < 0.06 and pz > 0.1 else 0.0
    if kind == 5:  # mottled
        value = np.sin(px * scale * 9) * np.sin(py * scale * 8 + 2) * np.sin(pz * scale * 7 + 1)
        return 1.0 if value > 0.15 else 0.0
    if kind == 6:  # a band across
        return 1.0 if abs(py - 0.05) < 0.05 else 0.0
    return 0.0


@njit(cache=True)
def _surface(px, py, pz, look):
    """Colour and gloss of the T-pose point (px, py, pz). The indices of `look` are those of `Look.packed`."""
    side = abs(px)
    red, green, blue, gloss = look[0], look[1], look[2], 0.05  # skin
    if py > 0.37 and side < 0.12:  # head
        hairline = look[30]
        scalp = (
            py > 0.545 - hairline
            or (pz < 0.165 and py > 0.44 - look[31])
            or (pz < 0.2 and py > 0.51 and side > 0.06)
        )
        if look[32] > 0.5 and scalp:
            streak = 0.85 + 0.15 * np.sin(px * 240 + np.sin(py * 60))
            return look[3] * streak, look[4] * streak, look[5] * streak, 0.08
        if pz > 0.2:
            eye_x, eye_y = side - 0.032, py - 0.493
            distance = np.sqrt(eye_x * eye_x + 1.8 * eye_y * eye_y)
            if distance < 0.006:
                return 0.08, 0.06, 0.05, 0.1
            if distance < 0.0125:
                return 0.92, 0.9, 0.88, 0.1
            if abs(py - 0.513) < 0.005 and 0.014 < side < 0.05:
                return look[3] * 0.8, look[4] * 0.8, look[5] * 0.8, 0.0
            if abs(py - 0.418) < 0.006 and side < 0.024:
                return red * 0.75, green * 0.5, blue * 0.5, 0.05
            if look[33] > 0.5 and py < 0.437:
                return look[3] * 0.9, look[4] * 0.9, look[5] * 0.9, 0.0
        return red, green, blue, gloss
    arm = side > 0.17 and py > 0.12
    if not arm and py < look[27]:  # shoes
        return look[12], look[13], look[14], 0.06
    if arm:
        top = side < look[24]
    else:
        top = (
            py > look[25]
            and (py < 0.315 or side > 0.085)
            and not (pz > 0.13 and py > look[34] and side < 0.35 * (py - look[34]) + 0.02)
        )
    if top:
        mix = _pattern(int(look[20]), look[21], px, py, pz)
        red = look[6] * (1 - mix) + look[15] * mix
        green = look[7] * (1 - mix) + look[16] * mix
        blue = look[8] * (1 - mix) + look[17] * mix
        crease = 0.93 + 0.07 * np.sin(py * 55 + 3 * np.sin(px * 23 + pz * 31))
        return red * crease, green * crease, blue * crease, 0.0
    if not arm and py < look[28] and py > look[26]:
        mix = _pattern(int(look[22]), look[23], px, py, pz) * 0.6
        red = look[9] * (1 - mix) + look[15] * mix
        green = look[10] * (1 - mix) + look[16] * mix
        blue = look[11] * (1 - mix) + look[17] * mix
        crease = 0.93 + 0.07 * np.sin(px * 60 + 2 * np.sin(py * 25))
        return red * crease, green * crease, blue * crease, 0.0
    return red, green, blue, gloss
