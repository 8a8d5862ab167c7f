"""Find people's boxes and key points with MoveNet MultiPose.

The network gives at most six people an image. When all six slots are taken, the image is looked at again in
two overlapping halves, and so on, so that crowds are found too.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from numpy import ndarray

from model_cache.lite.files import open_session

NUM_SLOTS = 6
STRIDE = 32  # both input sides are multiples of it
LONG_SIDE = 384  # finds as many of a rendered crowd as 448 and more than 544 or 640, which split people up
SCORE_FLOOR = 0.12
TILE_OVERLAP = 0.2  # of the split side, so that a person on the seam is whole in one half
MAX_SPLITS = 3  # 8 tiles, 48 people
SAME_PERSON = 0.6  # intersection over the smaller box


@dataclass(frozen=True, slots=True, kw_only=True)
class Poses:
    """People in one image, by descending score.

    Attributes:
        scores: MoveNet's person score, 0 to 1; 0.2 is already a likely person.
        bbox_xyxy: pixels, tight around the key points.
        keypoints: COCO's 17: x, y in pixels and score.
    """

    scores: Float32[ndarray, " n"]
    bbox_xyxy: Float32[ndarray, "n 4"]
    keypoints: Float32[ndarray, "n 17 3"]


class MoveNet:
    """The loaded network; holds nothing of any image."""

    def __init__(self, num_threads: int) -> None:
        self._session = open_session("movenet.onnx", num_threads)

    def find(self, image_bgr: UInt8[ndarray, "h w 3"]) -> Poses:
        """Every person above the score floor."""
        return _without_repeats(self._find_in(image_bgr, MAX_SPLITS))

    def _find_in(self, image_bgr: UInt8[ndarray, "h w 3"], splits_left: int) -> Poses:
        found = self._run(image_bgr)
        if len(found.scores) < NUM_SLOTS or splits_left == 0:
            return found
        axis = int(image_bgr.shape[1] >= image_bgr.shape[0])
        side = image_bgr.shape[axis]
        size = round(side * (1 + TILE_OVERLAP) / 2)
        parts = [found]
        for start in (0, side - size):
            tile = np.take(image_bgr, range(start, start + size), axis=axis)
            part = self._find_in(tile, splits_left - 1)
            shift = np.array([start, 0] if axis else [0, start], np.float32)
            parts.append(_moved(part, shift))
        return _joined(parts)

    def _run(self, image_bgr: UInt8[ndarray, "h w 3"]) -> Poses:
        height, width = image_bgr.shape[:2]
        scale = LONG_SIDE / max(height, width)
        inner = (max(round(width * scale), 1), max(round(height * scale), 1))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(image_bgr, inner, interpolation=interpolation)
        canvas = np.zeros((_rounded_up(inner[1]), _rounded_up(inner[0]), 3), np.int32)
        canvas[: inner[1], : inner[0]] = resized[..., ::-1]
        (people,) = self._session.run(None, {"image": canvas[None]})
        people = people[0][people[0, :, 55] > SCORE_FLOOR]
        to_pixels = np.array([canvas.shape[1] * width / inner[0], canvas.shape[0] * height / inner[1]])
        keypoints = people[:, :51].reshape(-1, 17, 3)[:, :, [1, 0, 2]].astype(np.float32)
        keypoints[:, :, :2] *= to_pixels
        boxes = people[:, [52, 51, 54, 53]] * np.tile(to_pixels, 2)
        return Poses(
            scores=people[:, 55].astype(np.float32), bbox_xyxy=boxes.astype(np.float32), keypoints=keypoints
        )


def _rounded_up(side: int) -> int:
    return -(-side // STRIDE) * STRIDE


def _moved(poses: Poses, shift: Float32[ndarray, "2"]) -> Poses:
    keypoints = poses.keypoints.copy()
    keypoints[:, :, :2] += shift
    return Poses(scores=poses.scores, bbox_xyxy=poses.bbox_xyxy + np.tile(shift, 2), keypoints=keypoints)


def _joined(parts: list[Poses]) -> Poses:
    return Poses(
        scores=np.concatenate([part.scores for part in parts]),
        bbox_xyxy=np.concatenate([part.bbox_xyxy for part in parts]),
        keypoints=np.concatenate([part.keypoints for part in parts]),
    )


def _without_repeats(poses: Poses) -> Poses:
    """Drop a person whose key points lie on a better one's, which tiles and the network's peaks repeat."""
    kept: list[int] = []
    for i in np.argsort(-poses.scores, kind="stable"):
        if all(not _same_person(poses, int(i), k) for k in kept):
            kept.append(int(i))
    return Poses(scores=poses.scores[kept], bbox_xyxy=poses.bbox_xyxy[kept], keypoints=poses.keypoints[kept])


def _same_person(poses: Poses, i: int, k: int) -> bool:
    a, b = poses.bbox_xyxy[i], poses.bbox_xyxy[k]
    overlap = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    smaller = min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))
    if overlap < SAME_PERSON * smaller:
        return False
    # Boxes of two people walking abreast overlap as much as a repeat's; their key points do not.
    size = np.sqrt(max(np.prod(a[2:] - a[:2]), 1.0))
    both = np.minimum(poses.keypoints[i, :, 2], poses.keypoints[k, :, 2])
    weight = both / max(float(both.sum()), 1e-6)
    gaps = np.linalg.norm(poses.keypoints[i, :, :2] - poses.keypoints[k, :, :2], axis=1)
    return bool((gaps * weight).sum() < 0.12 * size)
