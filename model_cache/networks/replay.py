"""Recorded detections in place of a detector: PHALP's ground-truth mode, and what tests use.

Knows nothing of pixels or networks.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from model_cache.errors import WeightsInvalid
from model_cache.interfaces import Detections


class ReplayDetector:
    """Gives the detections recorded for each frame.

    Args:
        recorded: frame index to its people; a frame that is not in it has none.
    """

    def __init__(self, recorded: Mapping[int, Detections]) -> None:
        self._recorded = recorded

    def detect(
        self, images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]], frame_indices: Sequence[int]
    ) -> list[Detections]:
        """The recorded people of each frame, in recorded order.

        Raises:
            WeightsInvalid: recorded masks are not of the image's size.
        """
        return [self._of_frame(image, index) for image, index in zip(images_bgr, frame_indices, strict=True)]

    def _of_frame(self, image: UInt8[ndarray, "h w 3"], frame_index: int) -> Detections:
        height, width = image.shape[:2]
        recorded = self._recorded.get(frame_index)
        if recorded is None:
            return no_detections(height, width)
        if recorded.masks.shape[1:] != (height, width):
            raise WeightsInvalid(
                f"recorded masks of frame {frame_index} are {recorded.masks.shape[1:]}, "
                f"the image is {(height, width)}"
            )
        return recorded


def no_detections(height: int, width: int) -> Detections:
    """An image of this size with nobody in it."""
    return Detections(
        bbox_xyxy=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        masks=np.zeros((0, height, width), bool),
    )
