"""Body meshes painted into a picture without OpenGL.

A painter's algorithm: faces that look at the camera, farthest first, each taking the pixel centres inside it.
All bodies share one order, so they hide each other as they should. All faces are filled at once: most are no
larger than a pixel, and a call for each would take five times as long.
"""

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray

from handler.camera import Intrinsics, project

NEAR_M = 0.1  # nothing closer to the camera is painted
TO_LIGHT = np.array([-0.35, -0.6, -0.72], np.float32)  # over the camera's left shoulder (y points down)
AMBIENT, DIFFUSE = 0.38, 0.68
STRIPE_ROWS = 32  # blended at a time: buffers that fit the cache are several times faster
CANDIDATES_AT_ONCE = 1 << 19  # (face, pixel) pairs of 60 bytes

Image = UInt8[ndarray, "h w 3"]
Points = Float32[ndarray, "k 2"]


def paint_bodies(
    image_bgr: Image,
    vertices: Float32[ndarray, "n v 3"],
    faces: Int64[ndarray, "f 3"],
    camera: Intrinsics,
    colours_bgr: UInt8[ndarray, "n 3"],
    opacities: Float32[ndarray, " n"],
) -> None:
    """Blend bodies over a picture, in place.

    The vertices are in the camera frame, metres; the corners of a face are counter-clockwise seen from
    outside; each body has its colour and its opacity, 0 to 1.
    """
    height, width = image_bgr.shape[:2]
    corners, depths, shades, owners = _visible_faces(vertices, faces, camera, width, height)
    if not len(corners):
        return
    lowest, highest = _extent(corners)
    low = np.maximum(np.floor(lowest.min(axis=0)).astype(int) - 2, 0)
    high = np.minimum(np.ceil(highest.max(axis=0)).astype(int) + 3, (width, height))
    order = np.argsort(-depths)
    painted = np.zeros((len(order) + 1, 4), np.uint8)  # the last one is for no face
    colours = colours_bgr[owners[order]] * shades[order, None]
    alpha = opacities[owners[order], None] * 255
    painted[:-1] = np.concatenate([colours, alpha], axis=1).clip(0, 255)
    columns, rows = (high - low).tolist()
    layer = painted[_nearest_faces(corners[order] - low.astype(np.float32), rows, columns)]
    _blend(image_bgr[low[1] : high[1], low[0] : high[0]], layer)


def _visible_faces(
    vertices: Float32[ndarray, "n v 3"],
    faces: Int64[ndarray, "f 3"],
    camera: Intrinsics,
    width: int,
    height: int,
) -> tuple[Float32[ndarray, "k 3 2"], Float32[ndarray, " k"], Float32[ndarray, " k"], Int64[ndarray, " k"]]:
    """Corners in pixels, depth, brightness and body of every face that can be seen."""
    with np.errstate(divide="ignore", invalid="ignore"):  # what is in the camera's plane is dropped below
        pixels = project(vertices, camera)
    beyond = vertices[..., 2] > NEAR_M
    ahead = beyond[:, faces[:, 0]] & beyond[:, faces[:, 1]] & beyond[:, faces[:, 2]]
    a, b, c = (pixels[:, faces[:, corner]] for corner in range(3))  # (n, f, 2)
    ab, ac = b - a, c - a
    # Seen from outside the corners go counter-clockwise, which has a negative area where y points down.
    front = ahead & (ab[..., 0] * ac[..., 1] < ab[..., 1] * ac[..., 0])
    owners, found = np.nonzero(front)
    corners = np.stack([a[front], b[front], c[front]], axis=1)
    lowest, highest = _extent(corners)
    inside = (highest[:, 0] >= 0) & (highest[:, 1] >= 0) & (lowest[:, 0] < width) & (lowest[:, 1] < height)
    owners, found = owners[inside], found[inside]
    first, second, third = (vertices[owners, faces[found, corner]] for corner in range(3))  # (k, 3)
    normals = np.cross(second - first, third - first)
    length = np.sqrt(np.einsum("kd,kd->k", normals, normals)) + np.float32(1e-12)
    light = (normals @ TO_LIGHT / length).clip(0)
    shades = np.float32(AMBIENT) + np.float32(DIFFUSE) * light
    depths = (first[:, 2] + second[:, 2] + third[:, 2]) / 3
    return corners[inside], depths, shades, owners


def _extent(corners: Float32[ndarray, "k 3 2"]) -> tuple[Points, Points]:
    """Lowest and highest x and y of each face; corner by corner, since numpy is slow on short axes."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)


def _nearest_faces(
    corners: Float32[ndarray, "k 3 2"], rows: int, columns: int
) -> Int64[ndarray, "rows columns"]:
    """The last of the faces whose inside, edges included, holds each pixel's centre; -1 where none does.

    The farthest face comes first; pixel centres are whole numbers.
    """
    nearest = np.full(rows * columns, -1, np.int64)
    lowest, highest = _extent(corners)
    first = np.ceil(lowest).clip(0).astype(np.int64)
    last = np.floor(highest).clip(max=(columns - 1, rows - 1)).astype(np.int64)
    size = last - first + 1
    faces = np.flatnonzero((size[:, 0] > 0) & (size[:, 1] > 0))
    ends = (size[faces, 0] * size[faces, 1]).cumsum()
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, CANDIDATES_AT_ONCE), side="right")
    for part in np.split(faces, cuts[1:]):
        pixels, owner = _pixels_inside(corners[part], first[part], size[part], columns)
        nearest[pixels] = part[owner]  # where indices repeat, the last one stays
    return nearest.reshape(rows, columns)


def _pixels_inside(
    corners: Float32[ndarray, "k 3 2"],
    first: Int64[ndarray, "k 2"],
    size: Int64[ndarray, "k 2"],
    columns: int,
) -> tuple[Int64[ndarray, " p"], Int64[ndarray, " p"]]:
    """Index of each pixel whose centre is inside a face, and which face, in the order of the faces."""
    num = size[:, 0] * size[:, 1]
    face = np.repeat(np.arange(len(num)), num)
    place = np.arange(len(face)) - np.repeat(num.cumsum() - num, num)
    row, column = np.divmod(place, size[face, 0])
    inside = np.ones(len(face), bool)
    relative = corners - first[:, None]  # small numbers: neighbours agree on the edge they share
    for corner in range(3):
        start, end = relative[:, corner], relative[:, (corner + 1) % 3]
        edge = end - start
        constant = edge[:, 1] * start[:, 0] - edge[:, 0] * start[:, 1]
        inside &= constant[face] - edge[face, 1] * column + edge[face, 0] * row <= 0
    face, row, column = face[inside], row[inside], column[inside]
    return (first[face, 1] + row) * columns + first[face, 0] + column, face


def _blend(region_bgr: Image, layer: UInt8[ndarray, "h w 4"]) -> None:
    """The painted layer over the picture, in place, its outline softened by a pixel."""
    height = layer.shape[0]
    for top in range(0, height, STRIPE_ROWS):
        bottom = min(top + STRIPE_ROWS, height)
        above, below = min(top, 1), min(height - bottom, 1)  # neighbours that the filters look at
        colour, share = _softened(layer[top - above : bottom + below])
        rows = slice(above, above + bottom - top)
        over = cv2.multiply(colour[rows], share[rows], scale=1 / 255)
        under = cv2.multiply(region_bgr[top:bottom], cv2.bitwise_not(share[rows]), scale=1 / 255)
        region_bgr[top:bottom] = cv2.add(over, under)


def _softened(layer: UInt8[ndarray, "h w 4"]) -> tuple[Image, Image]:
    """Colour and opacity (0 to 255) with a soft outline."""
    opacity = cv2.extractChannel(layer, 3)
    flat = cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR)
    # Beyond the outline the layer is black: widen its colours by a pixel so that no dark rim appears.
    colour = cv2.dilate(flat, np.ones((3, 3), np.uint8))
    cv2.copyTo(flat, opacity, colour)
    return colour, cv2.merge([cv2.GaussianBlur(opacity, (3, 3), 0)] * 3)
