"""Draw clips of several people with exact truth: who is where, in which pose, which pixels are whose."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from training import render
from training.actors import Actor
from training.body import Body
from training.crops import draw_light
from training.look import draw_colour
from training.rooms import Camera, draw_place

SUPERSAMPLING = 2
STAGE_MIDDLE = np.array([0.0, 0.0, 5.3])  # around which a second camera goes
NEAREST_LANE, LANE_STEP = 4.5, 0.55


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What to draw.

    Attributes:
        seed: everything follows from it.
        size: (height, width).
        cut_at: time of a camera cut in seconds, or None.
        variable_rate: frame times wander as a phone's do.
        pillar: something in front that people pass behind.
    """

    seed: int
    num_people: int = 4
    seconds: float = 10.0
    rate: float = 25.0
    size: tuple[int, int] = (360, 640)
    cut_at: float | None = None
    variable_rate: bool = False
    pillar: bool = False


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame and its truth; rows are people, whether seen or not.

    Attributes:
        image_bgr: (h, w, 3) uint8.
        time: seconds.
        shot: index of the camera.
        owners: (h, w) int8, index of the person each pixel shows, -1 for nobody.
        own_pixels: (p,) pixels each person would have if nobody were in front, inside the frame.
        rotations: (p, 24, 3, 3), root in the camera frame (x right, y down, z forward).
        betas: (p, 10).
        translation: (p, 3) of the body's origin, camera frame, metres.
        focal: pixels.
    """

    image_bgr: NDArray[np.uint8]
    time: float
    shot: int
    owners: NDArray[np.int8]
    own_pixels: NDArray[np.int64]
    rotations: NDArray[np.float32]
    betas: NDArray[np.float32]
    translation: NDArray[np.float32]
    focal: float


@dataclass(frozen=True, slots=True)
class _Shot:
    camera: Camera
    turn: NDArray[np.float64]  # of the stage around its middle
    place: NDArray[np.float32]  # the empty room, supersampled
    light: NDArray[np.float32]
    pillar: tuple[float, float, float, NDArray[np.float64]] | None  # left, right (px), depth, colour


def draw_clip(plan: ClipPlan, body: Body) -> Iterator[ClipFrame]:
    """The frames in order."""
    rng = np.random.default_rng([11, plan.seed])
    _height, width = plan.size
    focal = 1.0 * width
    lanes = NEAREST_LANE + LANE_STEP * rng.permutation(plan.num_people)
    leaver = rng.integers(plan.num_people)
    homes = np.linspace(-0.8, 0.8, plan.num_people) if plan.num_people > 1 else [0.0]
    actors = []
    for index, lane in enumerate(lanes):
        half_width = 0.5 * width / focal * lane * 0.92
        actors.append(
            Actor(
                rng,
                body,
                lane=lane,
                seconds=plan.seconds,
                leaves=index == leaver,
                half_width=half_width,
                home=homes[index] * half_width,
            )
        )
    shots = [
        _draw_shot(rng, plan, focal, turn) for turn in (0.0, rng.choice([-1, 1]) * rng.uniform(0.5, 1.0))
    ]
    time, number = 0.0, 0
    while time < plan.seconds:
        shot = int(plan.cut_at is not None and time >= plan.cut_at)
        yield _draw_frame(rng, body, actors, shots[shot], shot, time)
        number += 1
        step = rng.choice([0.6, 1.0, 1.0, 1.0, 1.9]) if plan.variable_rate else 1.0
        time = time + step / plan.rate if plan.variable_rate else number / plan.rate


def _draw_shot(rng: np.random.Generator, plan: ClipPlan, focal: float, turn: float) -> _Shot:
    camera = Camera(focal, plan.size, rng.uniform(1.2, 1.5), rng.uniform(0.07, 0.1))
    large = Camera(focal * SUPERSAMPLING, (plan.size[0] * SUPERSAMPLING, plan.size[1] * SUPERSAMPLING),
                   camera.height, camera.pitch)  # fmt: skip
    pillar = None
    if plan.pillar:
        left = rng.uniform(0.2, 0.7) * plan.size[1]
        pillar = (left, left + rng.uniform(0.05, 0.09) * plan.size[1], 3.2, draw_colour(rng, 0.7))
    return _Shot(
        camera=camera,
        turn=Rotation.from_euler("y", turn).as_matrix(),
        place=draw_place(rng, large, depth=rng.uniform(8.5, 12)),
        light=draw_light(rng),
        pillar=pillar,
    )


def _draw_frame(
    rng: np.random.Generator, body: Body, actors: list[Actor], shot: _Shot, index: int, time: float
) -> ClipFrame:
    camera, scale = shot.camera, SUPERSAMPLING
    height, width = (side * scale for side in camera.size)
    image = shot.place.copy()
    buffers = render.Buffers.empty(height, width)
    turned, meshes, normals = [], [], []
    for actor in actors:
        instant = actor.at(time)
        to_camera = camera.rotation @ shot.turn
        place = shot.turn @ (instant.place - STAGE_MIDDLE) + STAGE_MIDDLE
        translation = camera.to_camera(place[None])[0]
        rotations = instant.rotations.copy()
        pelvis = instant.posed.joints[0]
        rotations[0] = to_camera @ rotations[0]
        # SMPL turns about the pelvis, which is not the origin: keep the world place of the pelvis.
        translation = translation + to_camera @ pelvis - pelvis_at_rest(body, actor.betas)
        turned.append((rotations, translation))
        padded = instant.posed.vertices + instant.posed.normals * actor.look.padding(body.template)[:, None]
        world = padded @ shot.turn.T + place
        _cast_shadow(image, camera, world, shot.light, scale)
        meshes.append(camera.to_camera(world).astype(np.float32))
        normals.append((instant.posed.normals @ to_camera.T).astype(np.float32))
    focal, centre = camera.focal * scale, (width / 2, height / 2)
    own_pixels = []
    for who, mesh in enumerate(meshes):
        alone = render.Buffers.empty(height, width)
        render.rasterise(alone, mesh, body.faces, focal, centre, who)
        own_pixels.append(int((alone.person == who).sum()) // scale**2)
        nearer = alone.depth < buffers.depth
        for name in ("depth", "person", "face", "bary"):
            getattr(buffers, name)[nearer] = getattr(alone, name)[nearer]
    for who, actor in enumerate(actors):
        render.shade(image, buffers.person, buffers.face, buffers.bary, who, body.faces, body.template,
                     normals[who], actor.look.packed, shot.light)  # fmt: skip
    owners = buffers.person.astype(np.int8)
    if shot.pillar is not None:
        left, right, _, colour = shot.pillar
        columns = slice(round(left * scale), round(right * scale))
        image[:, columns], owners[:, columns] = colour, -1
    small = cv2.resize(image, camera.size[::-1], interpolation=cv2.INTER_AREA)
    small = small + rng.normal(0, 0.008, small.shape)
    return ClipFrame(
        image_bgr=(np.clip(small, 0, 1)[..., ::-1] * 255).astype(np.uint8),
        time=time,
        shot=index,
        owners=owners[scale // 2 :: scale, scale // 2 :: scale],
        own_pixels=np.array(own_pixels),
        rotations=np.stack([rotations for rotations, _ in turned]).astype(np.float32),
        betas=np.stack([actor.betas for actor in actors]),
        translation=np.stack([translation for _, translation in turned]).astype(np.float32),
        focal=camera.focal,
    )


def pelvis_at_rest(body: Body, betas: NDArray[np.float32]) -> NDArray[np.float64]:
    """Where the pelvis is before any rotation (3,)."""
    return body.rest_joints(betas)[0].astype(np.float64)


def _cast_shadow(
    image: NDArray[np.float32],
    camera: Camera,
    world: NDArray[np.float64],
    light: NDArray[np.float32],
    scale: int,
) -> None:
    """Darken the floor where the body stands between it and the light (a soft blob of projected vertices)."""
    # The light is in camera axes; the camera's tilt does not matter for a soft shadow.
    towards = light[:3] * np.array([-1, -1, 1])
    slope = towards[[0, 2]] / max(towards[1], 0.35)
    floor = world[::3].copy()
    floor[:, [0, 2]] -= slope * floor[:, 1:2]
    floor[:, 1] = 0
    pixels = np.round(camera.project(floor)).astype(int)
    height, width = camera.size
    inside = (pixels[:, 0] >= 0) & (pixels[:, 0] < width) & (pixels[:, 1] >= 0) & (pixels[:, 1] < height)
    shade = np.zeros((height, width), np.float32)
    shade[pixels[inside, 1], pixels[inside, 0]] = 1
    shade = cv2.GaussianBlur(cv2.dilate(shade, np.ones((5, 5))), (0, 0), 2.0)
    shade = cv2.resize(shade, (width * scale, height * scale), interpolation=cv2.INTER_LINEAR)
    image *= (1 - 0.4 * shade)[..., None]
