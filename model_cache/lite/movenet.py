"""Find people's boxes and key points with MoveNet MultiPose.

The network gives at most six people an image. When all six slots are taken, the image is looked at again in
two overlapping halves, and so on, so that crowds are found too.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from model_cache.lite.files import open_session, run_session

NUM_SLOTS = 6
STRIDE = 32  # both input sides are multiples of it
LONG_SIDE = 384  # finds as many of a rendered crowd as 448 and more than 544 or 640, which split people up
SCORE_FLOOR = 0.12
TILE_OVERLAP = 0.2  # of the split side, so that a person on the seam is whole in one half
MAX_SPLITS = 3  # 8 tiles, 48 people
SAME_PERSON = 0.6  # intersection over the smaller box


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """A person in an image."""

    score: float  # MoveNet's, 0 to 1; 0.2 is already a likely person
    bbox_xyxy: Float32[ndarray, "4"]  # pixels, tight around the key points
    keypoints: Float32[ndarray, "17 3"]  # COCO's: x, y in pixels and score


class MoveNet:
    """The loaded network; holds nothing of any image."""

    def __init__(self, num_threads: int) -> None:
        self._session = open_session("movenet.onnx", num_threads)

    def find(self, image_bgr: UInt8[ndarray, "h w 3"]) -> list[Pose]:
        """Every person above the score floor, by descending score.

        Tiles and the network's own peaks repeat people: one who lies on a better one is left out.
        """
        kept: list[Pose] = []
        for pose in sorted(self._find_in(image_bgr, MAX_SPLITS), key=lambda pose: -pose.score):
            if not any(_same_person(pose, other) for other in kept):
                kept.append(pose)
        return kept

    def _find_in(self, image_bgr: UInt8[ndarray, "h w 3"], splits_left: int) -> list[Pose]:
        found = self._run(image_bgr)
        if len(found) < NUM_SLOTS or splits_left == 0:
            return found
        axis = int(image_bgr.shape[1] >= image_bgr.shape[0])
        side = image_bgr.shape[axis]
        size = round(side * (1 + TILE_OVERLAP) / 2)
        for start in (0, side - size):
            tile = np.take(image_bgr, range(start, start + size), axis=axis)
            shift = np.array([start, 0] if axis else [0, start], np.float32)
            found += [
                Pose(
                    score=pose.score,
                    bbox_xyxy=pose.bbox_xyxy + np.tile(shift, 2),
                    keypoints=pose.keypoints + np.append(shift, np.float32(0)),
                )
                for pose in self._find_in(tile, splits_left - 1)
            ]
        return found

    def _run(self, image_bgr: UInt8[ndarray, "h w 3"]) -> list[Pose]:
        height, width = image_bgr.shape[:2]
        scale = LONG_SIDE / max(height, width)
        inner = (max(round(width * scale), 1), max(round(height * scale), 1))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image_bgr, inner, interpolation=interpolation)
        columns, rows = (-(-side // STRIDE) * STRIDE for side in inner)  # rounded up
        canvas = np.zeros((rows, columns, 3), np.int32)
        canvas[: inner[1], : inner[0]] = resized[..., ::-1]
        (people,) = run_session(self._session, None, {"image": canvas[None]})
        to_pixels = np.array([columns * width / inner[0], rows * height / inner[1]])
        return [
            Pose(
                score=float(person[55]),
                bbox_xyxy=(person[[52, 51, 54, 53]] * np.tile(to_pixels, 2)).astype(np.float32),
                keypoints=(person[:51].reshape(17, 3)[:, [1, 0, 2]] * [*to_pixels, 1]).astype(np.float32),
            )
            for person in people[0]
            if person[55] > SCORE_FLOOR
        ]


def _same_person(one: Pose, other: Pose) -> bool:
    """Whether the key points of the two lie on each other, weighed by the less sure of each pair."""
    a, b = one.bbox_xyxy, other.bbox_xyxy
    overlap = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    smaller = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
    if overlap < SAME_PERSON * smaller:
        return False
    # Boxes of two people walking abreast overlap as much as a repeat's; their key points do not.
    size = np.sqrt(max(np.prod(a[2:] - a[:2]), 1.0))
    both = np.minimum(one.keypoints[:, 2], other.keypoints[:, 2])
    weight = both / max(float(both.sum()), 1e-6)
    gaps = np.linalg.norm(one.keypoints[:, :2] - other.keypoints[:, :2], axis=1)
    return bool((gaps * weight).sum() < 0.12 * size)
