"""Cuts people out of a frame as HMR2's normalised input, with OpenCV. Knows nothing of devices or networks.

The crop is PHALP's: a square of the padded box's larger side, warped to 256x256 without blur. OpenCV 4 is
the oracle; `device_crops` reproduces its bytes from frames that already lie on a GPU.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from numpy import ndarray

CROP_SIZE = 256  # HMR2's training crop, pixels
MEAN_RGB = (123.675, 116.280, 103.530)  # ImageNet statistics times 255, as HMR2 was trained
STD_RGB = (58.395, 57.120, 57.375)


def crop_people(
    image_bgr: UInt8[ndarray, "h w 3"],
    bbox_padded_xyxy: Float32[ndarray, "n 4"],
    masks: Bool[ndarray, "n h w"],
) -> Float32[ndarray, "n 4 256 256"]:
    """Normalised R, G, B and a mask of {0, 1} per person.

    Pixels outside the image are black before the normalisation. A mask pixel is 1 where any of the mask
    is felt (the warped 0..255 mask is at least 1), which is all that the texture sampler asks of it.

    Args:
        image_bgr: one upright frame.
        bbox_padded_xyxy: boxes of `pad_boxes`, pixels; they may leave the image.
        masks: full-frame instance masks.

    Raises:
        ValueError: a box has no size or is not finite.
    """
    images, warped_masks = warp_people(image_bgr, bbox_padded_xyxy, masks)
    crops = np.empty((len(images), 4, CROP_SIZE, CROP_SIZE), np.float32)
    for channel, levels in enumerate(normalised_levels()):
        crops[:, channel] = levels[images[..., 2 - channel]]
    crops[:, 3] = warped_masks >= 1
    return crops


def warp_people(
    image_bgr: UInt8[ndarray, "h w 3"],
    bbox_padded_xyxy: Float32[ndarray, "n 4"],
    masks: Bool[ndarray, "n h w"],
) -> tuple[UInt8[ndarray, "n 256 256 3"], UInt8[ndarray, "n 256 256"]]:
    """The crops before normalisation (BGR) and the warped masks (0..255)."""
    images = np.empty((len(masks), CROP_SIZE, CROP_SIZE, 3), np.uint8)
    warped_masks = np.empty((len(masks), CROP_SIZE, CROP_SIZE), np.uint8)
    size = (CROP_SIZE, CROP_SIZE)
    for index, matrix in enumerate(crop_matrices(bbox_padded_xyxy)):
        cv2.warpAffine(image_bgr, matrix, size, dst=images[index], flags=cv2.INTER_LINEAR)
        mask = masks[index].astype(np.uint8) * np.uint8(255)
        cv2.warpAffine(mask, matrix, size, dst=warped_masks[index], flags=cv2.INTER_LINEAR)
    return images, warped_masks


def crop_matrices(bbox_padded_xyxy: Float32[ndarray, "n 4"]) -> Float64[ndarray, "n 2 3"]:
    """Affine maps from frame pixels to crop pixels.

    They go through three float32 points as in PHALP: the box centre and two points half a side away.

    Raises:
        ValueError: a box has no size or is not finite.
    """
    centers = (bbox_padded_xyxy[:, :2] + bbox_padded_xyxy[:, 2:]) / 2
    sides = (bbox_padded_xyxy[:, 2:] - bbox_padded_xyxy[:, :2]).max(axis=1, initial=0)
    if not (np.isfinite(bbox_padded_xyxy).all() and (sides > 0).all()):
        raise ValueError("a person's box has no size or is not finite")
    half = CROP_SIZE / 2
    crop_points = np.array([[half, half], [half, CROP_SIZE], [CROP_SIZE, half]], np.float32)
    matrices = np.empty((len(centers), 2, 3))
    for index, ((x, y), side) in enumerate(zip(centers, sides, strict=True)):
        frame_points = np.array([[x, y], [x, y + side / 2], [x + side / 2, y]], np.float32)
        matrices[index] = cv2.getAffineTransform(frame_points, crop_points)
    return matrices


def normalised_levels() -> Float32[ndarray, "3 256"]:
    """What each 8-bit level of R, G and B becomes; float64 arithmetic rounded once, as numpy 2 does it."""
    levels = np.arange(256, dtype=np.float64)
    mean, std = np.array(MEAN_RGB)[:, None], np.array(STD_RGB)[:, None]
    normalised: Float32[ndarray, "3 256"] = ((levels - mean) / std).astype(np.float32)
    return normalised
