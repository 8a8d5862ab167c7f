"""The bundled detector: MoveNet finds people, BlazePose gives each one's mask."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from numpy import ndarray

from model_cache.lite.blazepose import INPUT_SIZE, BlazePose, body_zone
from model_cache.lite.files import FILES, LITE_FOLDER
from model_cache.lite.movenet import MoveNet
from model_cache.lite.pixel_owners import distance_to, grid_step, nearest_person, share_out
from model_cache.networks.detector import Detections, NumpyDetector
from model_cache.registry import LoadOptions

# MoveNet's own working point is mapped to PHALP's default threshold, so that one setting fits all detectors.
MOVENET_THRESHOLD = 0.2
PHALP_THRESHOLD = 0.8
PRESENCE_FLOOR = 0.3  # of BlazePose; below, MoveNet saw a pattern
OUTSIDE = -10.0  # mask logit outside of people
SURE_KEYPOINT = 0.15
CROP_MARGIN = 2.7  # crop side over the largest distance from the hips to a key point: head top, feet, room
SMALLEST_SHARE = 0.25  # of a person's own mask; with less left, it is a repeat or somebody hardly seen
CROP = (INPUT_SIZE, INPUT_SIZE)
LEFT_HIP, RIGHT_HIP, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ANKLE, RIGHT_ANKLE = 11, 12, 5, 6, 15, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Person:
    """Somebody found: `distance` is every grid cell's from the bones, `feet` the lower ankle's row."""

    score: float
    mask: Bool[ndarray, "h w"]
    distance: Float32[ndarray, "r c"]
    feet: float


class LiteDetector(NumpyDetector):
    """MoveNet and BlazePose on the CPU, by onnxruntime; people below `score_floor` are not returned."""

    def __init__(self, num_threads: int = 0, score_floor: float = 0.3) -> None:
        self._movenet = MoveNet(num_threads)
        self._blazepose = BlazePose(num_threads)
        self._score_floor = score_floor
        self.weights = {FILES["detector"]: LITE_FOLDER / FILES["detector"]}

    def find(self, image_bgr: UInt8[ndarray, "h w 3"], frame_index: int = 0) -> Detections:
        """People by descending score; no two masks share a pixel, boxes fit what is left of each mask."""
        people = self._look(image_bgr)
        masks = share_out([p.mask for p in people], [p.distance for p in people], [p.feet for p in people])
        kept = [
            (_box_of(mask), person.score, mask)
            for person, mask in zip(people, masks, strict=True)
            if mask.sum() > SMALLEST_SHARE * person.mask.sum()
        ]
        return Detections(
            bbox_xyxy=np.array([box for box, _, _ in kept], np.float32).reshape(-1, 4),
            scores=np.array([score for _, score, _ in kept], np.float32),
            masks=np.array([mask for _, _, mask in kept], bool).reshape(-1, *image_bgr.shape[:2]),
        )

    def _look(self, image_bgr: UInt8[ndarray, "h w 3"]) -> list[_Person]:
        poses = [p for p in self._movenet.find(image_bgr) if calibrate(p.score) >= self._score_floor]
        if not poses:
            return []
        step = grid_step(image_bgr.shape[:2])
        coarse = image_bgr[::step, ::step]
        to_cells = np.array([1 / step, 1 / step, 1], np.float32)
        distances = [distance_to(pose.keypoints * to_cells, coarse.shape[:2]) for pose in poses]
        owners = nearest_person(distances)
        free = coarse[owners < 0]
        colour = free.mean(0)[::-1] / 255 if len(free) else 0.0
        people = []
        for index, (pose, distance) in enumerate(zip(poses, distances, strict=True)):
            to_crop = upright_crop(pose.keypoints)
            crop = cv2.warpAffine(image_bgr, to_crop, CROP, flags=cv2.INTER_LINEAR)
            crop_rgb = np.ascontiguousarray(crop[..., ::-1], np.float32) / 255
            # Others are painted over in the mean colour, or BlazePose may take one of them for the person.
            owner = cv2.warpAffine(
                owners, to_crop * [step, step, 1], CROP, flags=cv2.INTER_NEAREST, borderValue=-1
            )
            crop_rgb[(owner >= 0) & (owner != index)] = colour
            body = self._blazepose.run(crop_rgb)
            if body.presence < PRESENCE_FLOOR:
                continue
            mask = cv2.warpAffine(
                np.where(body_zone(body.landmarks), body.mask_logits, OUTSIDE).astype(np.float32),
                to_crop,
                image_bgr.shape[1::-1],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderValue=OUTSIDE,
            )
            feet = float(pose.keypoints[[LEFT_ANKLE, RIGHT_ANKLE], 1].max())
            people.append(_Person(score=calibrate(pose.score), mask=mask > 0, distance=distance, feet=feet))
        return people


def load_lite_detector(options: LoadOptions) -> LiteDetector:
    """MoveNet and BlazePose out of the package."""
    return LiteDetector(options.num_threads, options.score_floor)


def calibrate(score: float) -> float:
    """MoveNet's score on PHALP's scale: the working point goes to 0.8, both sides linear."""
    if score < MOVENET_THRESHOLD:
        return PHALP_THRESHOLD * score / MOVENET_THRESHOLD
    return PHALP_THRESHOLD + (1 - PHALP_THRESHOLD) * (score - MOVENET_THRESHOLD) / (1 - MOVENET_THRESHOLD)


def upright_crop(keypoints: Float32[ndarray, "17 3"]) -> Float64[ndarray, "2 3"]:
    """The affine map from image pixels to BlazePose's crop: hips in the middle, shoulders above them."""
    points = keypoints[:, :2].astype(np.float64)
    hips = (points[LEFT_HIP] + points[RIGHT_HIP]) / 2
    up = (points[LEFT_SHOULDER] + points[RIGHT_SHOULDER]) / 2 - hips
    reach = np.linalg.norm(points[keypoints[:, 2] > SURE_KEYPOINT] - hips, axis=1).max(initial=8.0)
    side = CROP_MARGIN * max(float(reach), float(np.linalg.norm(up)))
    angle = np.arctan2(up[0], -up[1])  # 0 for an upright person
    cosine, sine = np.cos(angle) * INPUT_SIZE / side, np.sin(angle) * INPUT_SIZE / side
    rotation = np.array([[cosine, sine], [-sine, cosine]])
    shift = INPUT_SIZE / 2 - rotation @ hips
    return np.concatenate([rotation, shift[:, None]], axis=1)


def _box_of(mask: Bool[ndarray, "h w"]) -> tuple[int, int, int, int]:
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return left, top, left + width, top + height
