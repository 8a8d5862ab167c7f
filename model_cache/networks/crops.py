"""Which detections become people, and how each is cut out of its frame as HMR2's normalised input.

The crop is PHALP's: a square of the padded box's larger side, warped to 256x256 without blur. OpenCV 4
cuts on the CPU; frames that are already on a GPU are cut there, to the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from model_cache.errors import ModelOutputInvalid
from model_cache.interfaces import PerceptionOptions
from model_cache.networks.device import to_device

ASPECT_WIDTH, ASPECT_HEIGHT = 192, 256  # PHALP's `expand_bbox_shape`
CROP_SIZE = 256  # HMR2's training crop, pixels
MEAN_RGB = (123.675, 116.280, 103.530)  # ImageNet statistics times 255, as HMR2 was trained
STD_RGB = (58.395, 57.120, 57.375)

# OpenCV 4's warpAffine is a fixed-point kernel: positions carry 10 fractional bits, of which the upper
# five choose one of 32 bilinear weights.
POSITION_BITS = 10
FRACTION_BITS = 5
FRACTIONS = 1 << FRACTION_BITS
HALF_FRACTION = 1 << (POSITION_BITS - FRACTION_BITS - 1)
FARTHEST_POSITION = 1 << 29  # keeps sums of two positions inside int32; such pixels are far outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The kept detections of one image, in detector order."""

    rows: Int64[ndarray, " n"]  # among all detections
    detection_index: Int64[ndarray, " n"]  # among those that passed the score filter (PHALP's `extra_data`)


def select(
    bbox_xyxy: Float32[ndarray, "n 4"], scores: Float32[ndarray, " n"], options: PerceptionOptions
) -> Selection:
    """People with `score > score_threshold` and a box that is not narrower or lower than allowed.

    If there are more than `max_people` of them, those with the highest scores stay, in detector order.
    Boxes without area are dropped whatever the options say.

    Raises:
        ModelOutputInvalid: a score, or a box whose score passed, is not finite. Comparing such numbers says
            "nobody", so they are looked at first.
    """
    passed = np.flatnonzero(scores > np.float32(options.score_threshold))
    if not (np.isfinite(scores).all() and np.isfinite(bbox_xyxy[passed]).all()):
        raise ModelOutputInvalid("the detector gave numbers that are not finite")
    size = bbox_xyxy[passed, 2:] - bbox_xyxy[passed, :2]
    large = (size[:, 0] >= options.small_w) & (size[:, 1] >= options.small_h) & (size > 0).all(axis=1)
    kept = np.flatnonzero(large)
    if options.max_people is not None and len(kept) > options.max_people:
        best = np.argsort(-scores[passed[kept]], kind="stable")[: options.max_people]
        kept = kept[np.sort(best)]
    return Selection(rows=passed[kept], detection_index=kept)


def pad_boxes(bbox_xyxy: Float32[ndarray, "n 4"]) -> Float32[ndarray, "n 4"]:
    """The smallest boxes of aspect ratio 192:256 around the given ones, about the same centres.

    Nothing is clipped to the image. The order of the float32 operations is that of PHALP, so that the
    last bit agrees too.
    """
    center = (bbox_xyxy[:, :2] + bbox_xyxy[:, 2:]) / 2
    width, height = (bbox_xyxy[:, 2:] - bbox_xyxy[:, :2]).T
    half_width = np.maximum(height * ASPECT_WIDTH / ASPECT_HEIGHT, width) / 2
    half_height = np.maximum(width * ASPECT_HEIGHT / ASPECT_WIDTH, height) / 2
    half = np.stack([half_width, half_height], axis=1)
    return np.concatenate([center - half, center + half], axis=1)


def crop_people(
    image_bgr: UInt8[ndarray, "h w 3"],
    bbox_padded_xyxy: Float32[ndarray, "n 4"],
    masks: Bool[ndarray, "n h w"],
) -> Float32[ndarray, "n 4 256 256"]:
    """Normalised R, G, B and a mask of {0, 1} per person, out of one upright frame.

    Boxes of `pad_boxes` may leave the image: pixels outside are black before the normalisation. A mask pixel
    is 1 where any of the full-frame mask is felt (the warped 0..255 mask is at least 1), which is all that
    the texture sampler asks of it.

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


def crop_people_on_device(
    frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]],
    bbox_padded_xyxy: Sequence[Float32[ndarray, "_ 4"]],
    masks: Sequence[Bool[Tensor, "_ _ _"]],
) -> Float32[Tensor, "n 4 256 256"]:
    """Normalised R, G, B and a mask of {0, 1} per person, the very numbers of `crop_people`.

    All people of all frames are cut in one pass, frame by frame in the order of the boxes, without waiting
    for the device; about 9 MB of device memory per person is held meanwhile.

    Args:
        frames_bgr: upright frames on one device, at least one; they may differ in size.
        bbox_padded_xyxy: for each frame the boxes of `pad_boxes`, pixels.
        masks: for each frame the full-frame masks of its people, on the same device.

    Raises:
        ValueError: a box has no size or is not finite.
    """
    device = frames_bgr[0].device
    counts = [len(boxes) for boxes in bbox_padded_xyxy]
    positions = _sample_positions(crop_matrices(np.concatenate(list(bbox_padded_xyxy))))
    frame_sizes = np.array([frame.shape[:2] for frame in frames_bgr], np.int32)
    steps, sizes = to_device([positions, frame_sizes.repeat(counts, axis=0)], device)
    height, width = sizes[:, 0, None, None], sizes[:, 1, None, None]

    # (n, 256, 256) from the parts that go with the crop's columns and with its rows
    x = (steps[:, 0, None, :] + steps[:, 2, :, None]) >> (POSITION_BITS - FRACTION_BITS)
    y = (steps[:, 1, None, :] + steps[:, 3, :, None]) >> (POSITION_BITS - FRACTION_BITS)
    left, x_fraction = x >> FRACTION_BITS, x & (FRACTIONS - 1)
    top, y_fraction = y >> FRACTION_BITS, y & (FRACTIONS - 1)
    x_weights, y_weights = (FRACTIONS - x_fraction, x_fraction), (FRACTIONS - y_fraction, y_fraction)

    colour_sum = torch.zeros((*x.shape, 3), dtype=torch.int32, device=device)
    mask_sum = torch.zeros_like(x)
    for right, down in product((0, 1), (0, 1)):
        column, row = left + right, top + down
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        weight = torch.where(inside, x_weights[right] * y_weights[down], 0)
        pixel = torch.where(inside, row * width + column, 0).long()
        colours, mask_values = _pick(frames_bgr, masks, pixel, counts)
        colour_sum += weight[..., None] * colours
        mask_sum += weight * mask_values

    half, shift = 1 << (2 * FRACTION_BITS - 1), 2 * FRACTION_BITS
    rgb = ((colour_sum + half) >> shift).flip(-1).movedim(-1, 1).long()  # (n, 3, 256, 256)
    (levels,) = to_device([normalised_levels()], device)
    channel = torch.arange(3, device=device)[:, None, None]
    mask = (mask_sum * 255 + half) >> shift >= 1
    return torch.cat([levels[channel, rgb], mask[:, None].float()], dim=1)


def _sample_positions(matrices: Float64[ndarray, "n 2 3"]) -> Int32[ndarray, "n 4 256"]:
    """Where crop pixels look in the frame, 10 fractional bits, split as OpenCV rounds it.

    Rows: x and y parts that go with the crop's column, x and y parts that go with its row.
    """
    a, b, c, d, e, f = matrices.reshape(-1, 6).T[:, :, None]
    determinant = a * e - b * d
    a, b, d, e = (value / determinant for value in (e, -b, -d, a))  # the inverse map
    c, f = -a * c - b * f, -d * c - e * f
    pixel = np.arange(CROP_SIZE, dtype=np.float64)
    one = 1 << POSITION_BITS
    parts = [
        np.rint(a * pixel * one),
        np.rint(d * pixel * one),
        np.rint((b * pixel + c) * one) + HALF_FRACTION,
        np.rint((e * pixel + f) * one) + HALF_FRACTION,
    ]
    return np.stack(parts, axis=1).clip(-FARTHEST_POSITION, FARTHEST_POSITION).astype(np.int32)


def _pick(
    frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]],
    masks: Sequence[Bool[Tensor, "_ _ _"]],
    pixel: Int64[Tensor, "n 256 256"],
    counts: list[int],
) -> tuple[UInt8[Tensor, "n 256 256 3"], Bool[Tensor, "n 256 256"]]:
    """Colours and mask values at one flat pixel index per person and crop pixel."""
    pixels = torch.split(pixel, counts)
    colours = [frame.reshape(-1, 3)[here] for frame, here in zip(frames_bgr, pixels, strict=True)]
    values = [mask.flatten(1).gather(1, here.flatten(1)) for mask, here in zip(masks, pixels, strict=True)]
    return torch.cat(colours), torch.cat(values).view(pixel.shape)
