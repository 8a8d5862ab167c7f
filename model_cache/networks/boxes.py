"""Grows person boxes to the crop's aspect ratio. Knows nothing of images or networks."""

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

ASPECT_WIDTH, ASPECT_HEIGHT = 192, 256  # PHALP's `expand_bbox_shape`


def pad_boxes(bbox_xyxy: Float32[ndarray, "n 4"]) -> Float32[ndarray, "n 4"]:
    """The smallest boxes of aspect ratio 192:256 around the given ones, about the same centres.

    Nothing is clipped to the image. The order of the float32 operations is that of PHALP, so that the
    last bit agrees too.

    Args:
        bbox_xyxy: x1, y1, x2, y2 in pixels, as the detector gave them.
    """
    width = bbox_xyxy[:, 2] - bbox_xyxy[:, 0]
    height = bbox_xyxy[:, 3] - bbox_xyxy[:, 1]
    center_x = (bbox_xyxy[:, 0] + bbox_xyxy[:, 2]) / 2
    center_y = (bbox_xyxy[:, 1] + bbox_xyxy[:, 3]) / 2
    half_width = np.maximum(height * ASPECT_WIDTH / ASPECT_HEIGHT, width) / 2
    half_height = np.maximum(width * ASPECT_HEIGHT / ASPECT_WIDTH, height) / 2
    return np.stack(
        [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height], axis=1
    )
