"""Run BlazePose's landmark network on square crops: landmarks, presence, mask logits, feature map.

Paper: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking", 2020.
"""

from dataclasses import dataclass

from jaxtyping import Float32
from numpy import ndarray

from model_cache.lite.files import open_session

INPUT_SIZE = 256
NUM_LANDMARKS = 33  # the network gives 39; the last 6 only steer its own next crop


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyCrop:
    """What the network says about one 256 x 256 crop.

    Attributes:
        landmarks: x, y, z in crop pixels, visibility and presence logits.
        world_landmarks: metres, hip centred, axes of the crop (x right, y down, z away).
        presence: probability that somebody is in the crop.
        mask_logits: above 0 is person.
        features: the last feature map.
    """

    landmarks: Float32[ndarray, "33 5"]
    world_landmarks: Float32[ndarray, "33 3"]
    presence: float
    mask_logits: Float32[ndarray, "256 256"]
    features: Float32[ndarray, "288 8 8"]


class BlazePose:
    """The loaded network; holds nothing of any image."""

    def __init__(self, num_threads: int) -> None:
        self._session = open_session("blazepose.onnx", num_threads)

    def run(self, crop_rgb: Float32[ndarray, "256 256 3"]) -> BodyCrop:
        """One crop, RGB in 0 to 1."""
        outputs = self._session.run(
            ["landmarks", "world_landmarks", "presence", "segmentation", "features"],
            {"image": crop_rgb[None]},
        )
        landmarks, world, presence, mask, features = outputs
        return BodyCrop(
            landmarks=landmarks.reshape(39, 5)[:NUM_LANDMARKS],
            world_landmarks=world.reshape(39, 3)[:NUM_LANDMARKS],
            presence=float(presence.reshape(())),
            mask_logits=mask[0, :, :, 0],
            features=features[0],
        )
