"""BlazePose's landmark network on square crops, and where in a crop its landmarks let the person be.

Bazarevsky et al., BlazePose: On-device Real-time Body Pose Tracking, 2020.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from model_cache.lite.files import open_session, run_session
from model_cache.lite.pixel_owners import fill, stroke, torso_length

INPUT_SIZE = 256
NUM_LANDMARKS = 33  # the network gives 39; the last 6 only steer its own next crop

# Half widths in torso lengths: generous, since clothes and hair are wider than bones.
LIMB, THIGH, TRUNK, HEAD, END = 0.24, 0.34, 0.32, 0.48, 0.3
NOSE, EARS, SHOULDERS, HIPS, KNEES = 0, (7, 8), (11, 12), (23, 24), (25, 26)
THIGHS = ((23, 25), (24, 26))
LIMBS = ((11, 13), (13, 15), (15, 19), (12, 14), (14, 16), (16, 20), (25, 27), (27, 31), (27, 29),
         (26, 28), (28, 32), (28, 30))  # fmt: skip
ENDS = (19, 20, 31, 32)  # hands and feet


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyCrop:
    """What the network says about one 256 x 256 crop."""

    landmarks: Float32[ndarray, "33 5"]  # x, y, z in crop pixels, visibility and presence logits
    world_landmarks: Float32[
        ndarray, "33 3"
    ]  # metres, hip centred, axes of the crop (x right, y down, z away)
    presence: float  # probability that somebody is in the crop
    mask_logits: Float32[ndarray, "256 256"]  # above 0 is person
    features: Float32[ndarray, "288 8 8"]  # the last feature map


class BlazePose:
    """The loaded network; holds nothing of any image."""

    def __init__(self, num_threads: int) -> None:
        self._session = open_session("blazepose.onnx", num_threads)

    def run(self, crop_rgb: Float32[ndarray, "256 256 3"]) -> BodyCrop:
        """One crop, RGB in 0 to 1."""
        names = ["landmarks", "world_landmarks", "presence", "segmentation", "features"]
        outputs = run_session(self._session, names, {"image": crop_rgb[None]})
        landmarks, world, presence, mask, features = outputs
        return BodyCrop(
            landmarks=landmarks.reshape(39, 5)[:NUM_LANDMARKS],
            world_landmarks=world.reshape(39, 3)[:NUM_LANDMARKS],
            presence=float(presence.reshape(())),
            mask_logits=mask[0, :, :, 0],
            features=features[0],
        )


def body_zone(landmarks: Float32[ndarray, "33 5"]) -> Bool[ndarray, "256 256"]:
    """Pixels within reach of the limbs, the trunk and the head.

    BlazePose's mask runs over into people close by; the landmarks stay with one person.
    """
    points = landmarks[:, :2].astype(np.float64)
    shoulders, hips = points[list(SHOULDERS)], points[list(HIPS)]
    torso = torso_length(points, shoulders, hips)
    zone = np.zeros((INPUT_SIZE, INPUT_SIZE), np.uint8)
    for segments, width in ((LIMBS, LIMB), (THIGHS, THIGH)):
        for a, b in segments:
            stroke(zone, points[a], points[b], 2 * width * torso)
    fill(zone, shoulders, hips)
    for a, b in ((11, 12), (12, 24), (24, 23), (23, 11)):
        stroke(zone, points[a], points[b], 2 * TRUNK * torso)
    fill(zone, hips, points[list(KNEES)])  # a skirt spans the legs
    head = (points[list(EARS)].mean(0) + points[NOSE]) / 2
    stroke(zone, head, head, 2 * HEAD * torso)
    stroke(zone, shoulders.mean(0), head, 2 * LIMB * torso)
    for end in ENDS:
        stroke(zone, points[end], points[end], 2 * END * torso)
    return zone > 0
