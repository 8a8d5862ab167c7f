"""Draw training crops: one person as HMR2 sees her, with others in the way, and the exact answer.

The crop is PHALP's: a square around the visible box padded to 192:256.
The answer is in the frame of a camera that looks at the middle of the crop, which is all a crop can tell.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from training import render
from training.body import Body, PosedBody
from training.look import Look, draw_colour, draw_look
from training.poses import VARIED, Mix, draw_pose
from training.rooms import Camera, draw_place

CROP = 256
FOCAL = 5000.0  # of HMR2's crop camera, pixels of a 256 crop
SMALLEST_VISIBLE = 0.3  # of the person's own pixels
Array = NDArray[np.float32]
UPSIDE = np.diag([1.0, -1.0, -1.0])  # SMPL's y up, z forward -> facing the camera, y down


@dataclass(frozen=True, slots=True)
class Crop:
    """One training crop.

    Attributes:
        image_bgr: (256, 256, 3) uint8.
        rotations: (24, 3, 3), root first, camera frame.
        betas: (10,).
        crop_cam: (3,) HMR2's pred_cam.
        joints: (44, 3) metres, body frame without translation.
        keypoints: (44, 2) crop units, borders at +-0.5.
        mask: (256, 256) bool.
    """

    image_bgr: NDArray[np.uint8]
    rotations: Array
    betas: Array
    crop_cam: Array
    joints: Array
    keypoints: Array
    mask: NDArray[np.bool_]


def draw_places(rng: np.random.Generator, num: int) -> list[Array]:
    """Backgrounds to cut from, 480 x 640."""
    places = []
    for _ in range(num):
        camera = Camera(rng.uniform(450, 1100), (480, 640), rng.uniform(0.8, 2.8), rng.uniform(-0.05, 0.35))
        places.append(draw_place(rng, camera))
    return places


def draw_crop(
    rng: np.random.Generator, body: Body, places: list[Array], look: Look | None = None, mix: Mix = VARIED
) -> Crop:
    """One crop; draws again until enough of the person is seen. Without a `look` one is drawn."""
    while True:
        crop = _try_crop(rng, body, places, look, mix)
        if crop is not None:
            return crop


def _try_crop(
    rng: np.random.Generator, body: Body, places: list[Array], look: Look | None, mix: Mix
) -> Crop | None:
    pitch = np.clip(rng.normal(0.12, 0.16), -0.35, 0.75)
    tilt = Rotation.from_euler("xz", [pitch, rng.normal(0, 0.05)]).as_matrix()
    distance = float(np.exp(rng.uniform(np.log(2.2), np.log(14.0))))
    rotations, betas, posed = _draw_person(rng, body, tilt, mix)
    centre = np.array([0, 0, distance]) - tilt @ UPSIDE @ np.array([0, -0.3, 0.0])
    people = [(posed, centre)]
    for _ in range(rng.choice([0, 1, 2, 3], p=[0.5, 0.28, 0.14, 0.08])):
        _, _, other = _draw_person(rng, body, tilt, mix)
        ahead = (
            rng.uniform(-0.35 * distance, 0.8 * distance) if rng.uniform() < 0.75 else rng.uniform(-0.6, 0.6)
        )
        aside = rng.normal(0, 0.55) + np.sign(rng.normal()) * 0.25
        people.append((other, centre + tilt @ np.array([aside, 0, ahead])))

    side_px = float(np.exp(rng.uniform(np.log(110), np.log(300))))  # how large the person is in the video
    focal = side_px * distance / 1.9
    margin = 2.2
    size = round(side_px * margin)
    if size > 640:
        return None
    window = _truncate(rng, size)
    buffers, image = _draw(rng, body, people, focal, size, places, look)
    own = buffers.person == 0
    if rng.uniform() < 0.1:
        own = _hide_behind_box(rng, image, own)
    own &= window
    full = render.Buffers.empty(size, size)
    render.rasterise(
        full, posed.vertices + centre.astype(np.float32), body.faces, focal, (size / 2, size / 2), 0
    )
    if own.sum() < max(SMALLEST_VISIBLE * (full.person == 0).sum(), 150):
        return None
    box_centre, side = _crop_square(rng, own)
    to_crop = np.array([[CROP / side, 0, CROP / 2 - CROP / side * box_centre[0]],
                        [0, CROP / side, CROP / 2 - CROP / side * box_centre[1]]])  # fmt: skip
    pixels = _camera_effects(rng, image) * window[..., None]
    cropped = cv2.warpAffine(pixels, to_crop, (CROP, CROP), flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(own.astype(np.uint8), to_crop, (CROP, CROP), flags=cv2.INTER_LINEAR) > 0

    # What the crop's own camera sees: turn the view so that its axis goes through the middle of the crop.
    ray = np.array([(box_centre[0] - size / 2) / focal, (box_centre[1] - size / 2) / focal, 1.0])
    turn = view_rotation(ray)
    joints = posed.joints_44 @ turn.T
    placed = posed.joints_44 + centre
    seen = placed[:, :2] / placed[:, 2:] * focal + size / 2
    keypoints = (seen - box_centre) / side
    rotations = rotations.copy()
    rotations[0] = turn @ rotations[0]
    return Crop(
        image_bgr=cropped,
        rotations=rotations.astype(np.float32),
        betas=betas,
        crop_cam=fit_crop_cam(joints, keypoints).astype(np.float32),
        joints=joints.astype(np.float32),
        keypoints=keypoints.astype(np.float32),
        mask=mask,
    )


def _draw_person(
    rng: np.random.Generator, body: Body, tilt: NDArray[np.float64], mix: Mix
) -> tuple[Array, Array, PosedBody]:
    matrices = draw_pose(rng, mix).matrices()
    yaw = Rotation.from_euler("y", rng.uniform(0, 2 * np.pi)).as_matrix()
    matrices[0] = tilt @ UPSIDE @ yaw @ matrices[0]
    betas = np.clip(rng.normal(0, 0.9, 10), -2.2, 2.2)
    rotations = matrices.astype(np.float32)
    betas32 = betas.astype(np.float32)
    return rotations, betas32, body.pose(rotations, betas32)


def _draw(
    rng: np.random.Generator, body: Body, people: list[tuple[PosedBody, NDArray[np.float64]]], focal: float,
    size: int, places: list[Array], look: Look | None,
) -> tuple[render.Buffers, Array]:  # fmt: skip
    """The picture (size, size, 3) RGB 0-1 and its buffers."""
    place = places[rng.integers(len(places))]
    part = rng.uniform(0.35, 1.0)
    side = round(part * 480)
    top, left = rng.integers(0, 480 - side + 1), rng.integers(0, 640 - side + 1)
    image = cv2.resize(
        place[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_LINEAR
    )
    if rng.uniform() < 0.5:
        image = image[:, ::-1]
    image = np.clip(image * rng.uniform(0.75, 1.2), 0, 1).astype(np.float32)
    buffers = render.Buffers.empty(size, size)
    light = draw_light(rng)
    looks = [draw_look(rng) for _ in people]
    if look is not None:
        looks[0] = look
    for who, ((posed, place_at), look) in enumerate(zip(people, looks, strict=True)):
        vertices = posed.vertices + posed.normals * look.padding(body.template)[:, None]
        vertices = (vertices + place_at).astype(np.float32)
        if vertices[:, 2].min() < 0.3:
            continue
        render.rasterise(buffers, vertices, body.faces, focal, (size / 2, size / 2), who)
    for who, ((posed, _), look) in enumerate(zip(people, looks, strict=True)):
        render.shade(image, buffers.person, buffers.face, buffers.bary, who, body.faces, body.template,
                     posed.normals, look.packed, light)  # fmt: skip
    return buffers, image


def draw_light(rng: np.random.Generator) -> Array:
    """Direction towards the light (3), ambient level, strength."""
    direction = np.array([rng.normal(0, 0.7), -abs(rng.normal(0.8, 0.4)), rng.normal(-0.4, 0.6)])
    return np.array([*direction / np.linalg.norm(direction), rng.uniform(0.35, 0.75), rng.uniform(0.2, 0.65)],
                    np.float32)  # fmt: skip


def _truncate(rng: np.random.Generator, size: int) -> NDArray[np.bool_]:
    """Which pixels lie inside the video frame; mostly all."""
    window = np.ones((size, size), bool)
    if rng.uniform() < 0.2:
        cut = round(size * rng.uniform(0.3, 0.55))
        side = rng.choice(4, p=[0.45, 0.05, 0.25, 0.25])
        if side == 0:
            window[size - cut :] = False
        elif side == 1:
            window[: cut // 2] = False
        elif side == 2:
            window[:, :cut] = False
        else:
            window[:, size - cut :] = False
    return window


def _hide_behind_box(rng: np.random.Generator, image: Array, own: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Put a plain thing in front of part of the person."""
    rows, columns = np.nonzero(own)
    if len(rows) == 0:
        return own
    y, x = rng.uniform(rows.min(), rows.max()), rng.uniform(columns.min(), columns.max())
    h, w = rng.uniform(0.15, 0.5, 2) * np.ptp(rows)
    top, left = max(round(y - h / 2), 0), max(round(x - w / 2), 0)
    image[top : round(y + h / 2), left : round(x + w / 2)] = draw_colour(rng)
    own = own.copy()
    own[top : round(y + h / 2), left : round(x + w / 2)] = False
    return own


def _crop_square(rng: np.random.Generator, own: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Centre (x, y) and side of PHALP's square around the visible box, with a detector's inaccuracy."""
    rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
    low = np.array([columns[0], rows[0]], float)
    high = np.array([columns[-1] + 1, rows[-1] + 1], float)
    extent = high - low
    error = rng.normal(0, 0.025, 4) + (rng.uniform(-0.06, 0.06, 4) if rng.uniform() < 0.3 else 0)
    low, high = low + error[:2] * extent, high + error[2:] * extent
    w, h = high - low
    return (low + high) / 2, float(max(h, w * CROP / 192))


def _camera_effects(rng: np.random.Generator, image: Array) -> NDArray[np.uint8]:
    """Blur, noise, colour cast, contrast and JPEG, then BGR bytes."""
    if rng.uniform() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
    cast = rng.normal(1, 0.06, 3)
    image = np.clip((image - 0.5) * rng.uniform(0.7, 1.2) + 0.5 + rng.normal(0, 0.05), 0, 1) * cast
    image = image + rng.normal(0, rng.uniform(0.0, 0.03), image.shape)
    pixels = (np.clip(image, 0, 1)[..., ::-1] * 255).astype(np.uint8)
    if rng.uniform() < 0.5:
        _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))])
        pixels = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    return pixels


def view_rotation(ray: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rotation that takes a viewing ray (3,) to the optical axis."""
    ray = ray / np.linalg.norm(ray)
    axis = np.cross(ray, [0, 0, 1.0])
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return np.eye(3)
    return Rotation.from_rotvec(axis / sine * np.arctan2(sine, ray[2])).as_matrix()


def fit_crop_cam(joints: NDArray[np.floating], keypoints: NDArray[np.floating]) -> NDArray[np.float64]:
    """The (s, tx, ty) whose crop camera puts the joints (j, 3) nearest to the key points (j, 2), crop units.

    HMR2's camera is f/256 * (X + t) / (Z + 2 f / (256 s)); with f = 5000 the depth term barely moves, so two
    linear solves, the second with the first's perspective, are exact enough.
    """
    depth = np.zeros(len(joints))
    solution = np.array([1.0, 0.0, 0.0])
    for _ in range(3):
        # u * (1 + Z s 256 / 2f) = s/2 * (X + tx)
        warped = keypoints * (1 + depth * solution[0] * CROP / (2 * FOCAL))[:, None]
        system = np.zeros((2 * len(joints), 3))
        system[0::2, 0], system[0::2, 1] = joints[:, 0] / 2, 0.5
        system[1::2, 0], system[1::2, 2] = joints[:, 1] / 2, 0.5
        s, stx, sty = np.linalg.lstsq(system, warped.reshape(-1), rcond=None)[0]
        solution = np.array([s, stx / s, sty / s])
        depth = joints[:, 2]
    return solution
