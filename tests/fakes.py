"""Stand-ins for the loaded models: small, deterministic, and right about a world of coloured rectangles.

A person is a saturated rectangle on grey. Who it is shows in its colour, where it is in its box, and every
number that comes out follows from these two, so that a whole job has an exact expected document.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from model_cache.interfaces import ModelsDescription, People, PerceptionOptions

COLOURS_BGR = {"red": (40, 40, 220), "green": (40, 200, 40), "blue": (220, 40, 40), "pink": (200, 60, 220)}
GREY = 128
SATURATION = 60  # difference of the channels that makes a pixel part of a person; survives lossy coding
GRID = 4  # boxes snap to it, so that blurred edges of lossy coding do not matter
CROP_ASPECT = 192 / 256  # of HMR2's crop: width / height

Box = tuple[int, int, int, int]  # x1, y1, x2, y2


def draw_people(boxes: dict[str, Box], size: tuple[int, int]) -> np.ndarray:
    """A grey picture (BGR) with one rectangle per colour name; `size` is (width, height)."""
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    for name, (x1, y1, x2, y2) in boxes.items():
        image[y1:y2, x1:x2] = COLOURS_BGR[name]
    return image


@dataclass(frozen=True)
class FakeTexture:
    """A texture that is a colour name."""

    colour: str


@dataclass
class FakePerception:
    """Finds the rectangles; one person each, turned about the vertical by how far right they stand.

    `before` sees the frame indices of every batch and may raise; `after` may change what was found.
    """

    before: Callable[[Sequence[int]], None] = lambda indices: None
    after: Callable[[int, People], People] = lambda index, found: found
    batches: list[tuple[int, ...]] = field(default_factory=list)

    def perceive(
        self, images_bgr: Sequence[np.ndarray], frame_indices: Sequence[int], options: PerceptionOptions
    ) -> list[People]:
        """One record per image."""
        self.batches.append(tuple(frame_indices))
        self.before(frame_indices)
        found = [people_in(image, options) for image in images_bgr]
        return [self.after(index, one) for index, one in zip(frame_indices, found, strict=True)]


def people_in(image_bgr: np.ndarray, options: PerceptionOptions) -> People:
    """The rectangles of one picture, left to right."""
    width = image_bgr.shape[1]
    boxes, colours = [], []
    for x1, y1, x2, y2, colour in rectangles(image_bgr):
        if x2 - x1 >= options.small_w and y2 - y1 >= options.small_h:
            boxes.append((x1, y1, x2, y2))
            colours.append(colour)
    num = min(len(boxes), options.max_people or len(boxes))
    box = np.array(boxes[:num], np.float32).reshape(num, 4)
    colours = colours[:num]
    centre, extent = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    padded_height = np.maximum(extent[:, 1], extent[:, 0] / CROP_ASPECT)
    half = np.stack([padded_height * CROP_ASPECT, padded_height], axis=1) / 2
    ids = np.array([list(COLOURS_BGR).index(colour) for colour in colours], np.float32)
    betas = np.zeros((num, 10), np.float32)
    betas[:, 0] = ids / 4
    angle = centre[:, 0] / width
    rotations = np.tile(np.eye(3, dtype=np.float32), (num, 24, 1, 1))
    rotations[:, 0, 0, 0] = rotations[:, 0, 2, 2] = np.cos(angle)
    rotations[:, 0, 0, 2], rotations[:, 0, 2, 0] = np.sin(angle), -np.sin(angle)
    joints = np.broadcast_to(stick_joints(44), (num, 44, 3)).copy()
    return People(
        detection_index=np.arange(num, dtype=np.int64),
        bbox_xyxy=box,
        bbox_padded_xyxy=np.concatenate([centre - half, centre + half], axis=1).astype(np.float32),
        scores=np.full(num, 0.95, np.float32),
        rotations=rotations,
        betas=betas,
        crop_cam=np.tile(np.array([1, 0, 0], np.float32), (num, 1)),
        joints_3d=joints,
        smpl_joints_3d=np.broadcast_to(stick_joints(24), (num, 24, 3)).copy(),
        textures=tuple(FakeTexture(colour) for colour in colours),
        mask_rle=tuple("0" for _ in colours) if options.masks else None,
    )


def rectangles(image_bgr: np.ndarray) -> list[tuple[int, int, int, int, str]]:
    """x1, y1, x2, y2 and the colour name of each rectangle, left to right."""
    pixels = image_bgr[::2, ::2].astype(np.int16)  # a quarter of the pixels is plenty
    saturated = pixels.max(axis=2) - pixels.min(axis=2) > SATURATION
    num, labels, stats, _ = cv2.connectedComponentsWithStats(saturated.astype(np.uint8))
    found = []
    for label in range(1, num):
        x, y, width, height, area = stats[label].tolist()
        if area < 16:
            continue
        colour = pixels[labels == label].mean(axis=0)
        name = min(COLOURS_BGR, key=lambda key: np.abs(colour - COLOURS_BGR[key]).sum())
        corners = np.array([x, y, x + width, y + height]) * 2
        found.append((*(np.round(corners / GRID) * GRID).astype(int).tolist(), name))
    return sorted(found)


def stick_joints(num: int) -> np.ndarray:
    """Joints of a stick: evenly from 1 m above the origin to 1 m below (y points down)."""
    joints = np.zeros((num, 3), np.float32)
    joints[:, 1] = np.linspace(-1, 1, num)
    return joints


class FakeTextureModel:
    """Same colour, same person: 0 apart, others far over any threshold."""

    def distance(self, tracks, detections, pairs) -> np.ndarray:
        return np.array([0.0 if tracks[t] == detections[d] else 30.0 for t, d in pairs], np.float64)

    def mix(self, track: FakeTexture, detection: FakeTexture, score, *, alpha=0.1) -> FakeTexture:
        return track

    def copy(self, texture: FakeTexture) -> FakeTexture:
        return texture


class FakePosePredictor:
    """Expects everybody to stay as they are."""

    frame_length = 125

    def predict_next(self, poses, times, time_to_predict, *, upstream_quirks=False) -> np.ndarray:
        return poses[:, -1].copy()


class FakeBody:
    """A stick with a rectangle around it, one metre wide and two metres high."""

    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int64)

    def vertices(self, global_orient, body_pose, betas) -> np.ndarray:
        corners = np.array([[-0.5, -1, 0], [0.5, -1, 0], [0.5, 1, 0], [-0.5, 1, 0]], np.float32)
        return np.broadcast_to(corners, (len(betas), 4, 3)).copy()

    def joints(self, global_orient, body_pose, betas) -> tuple[np.ndarray, np.ndarray]:
        hmr2, smpl = (np.broadcast_to(stick_joints(n), (len(betas), n, 3)).copy() for n in (44, 24))
        return hmr2, smpl


DESCRIPTION = ModelsDescription(
    models="lite",
    engine="native",
    detector="fake",
    backbone="fake",
    body_model="stick",
    precision="fp32",
    device="cpu",
    files=(),
    notice="fake models",
)


@dataclass
class FakeModels:
    """Everything a worker has loaded, faked; counts how often the cache is cleared."""

    perception: FakePerception = field(default_factory=FakePerception)
    texture: FakeTextureModel = field(default_factory=FakeTextureModel)
    pose_predictor: FakePosePredictor = field(default_factory=FakePosePredictor)
    body: FakeBody = field(default_factory=FakeBody)
    description: ModelsDescription = DESCRIPTION
    most_frames: int | None = None
    num_cleared: int = 0

    def begin_tracking(self, options) -> None:
        return None

    def clear_cache(self) -> None:
        self.num_cleared += 1

    def peak_device_bytes(self) -> None:
        return None
