"""Cuts people out of frames that already lie on a device, byte for byte as OpenCV 4 would."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from model_cache.networks.crops import CROP_SIZE, crop_matrices, normalised_levels

# OpenCV 4's warpAffine is a fixed-point kernel: positions carry 10 fractional bits, of which the upper
# five choose one of 32 bilinear weights.
POSITION_BITS = 10
FRACTION_BITS = 5
FRACTIONS = 1 << FRACTION_BITS
HALF_FRACTION = 1 << (POSITION_BITS - FRACTION_BITS - 1)
FARTHEST_POSITION = 1 << 29  # keeps sums of two positions inside int32; such pixels are far outside


def crop_people_on_device(
    frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]],
    bbox_padded_xyxy: Sequence[Float32[ndarray, "_ 4"]],
    masks: Sequence[Bool[Tensor, "_ _ _"]],
) -> Float32[Tensor, "n 4 256 256"]:
    """Normalised R, G, B and a mask of {0, 1} per person, the very numbers of `crops.crop_people`.

    All people of all frames are cut in one pass without waiting for the device; about 4 MB of device memory
    per person is held meanwhile. Frames may differ in size and hold any number of people.

    Args:
        frames_bgr: upright frames on one device; at least one.
        bbox_padded_xyxy: for each frame the boxes of `pad_boxes`, pixels.
        masks: for each frame the full-frame masks of its people, (people, h, w), on the same device.

    Returns:
        People in the order of the frames, then of each frame's boxes.

    Raises:
        ValueError: a box has no size or is not finite.
    """
    device = frames_bgr[0].device
    counts = [len(boxes) for boxes in bbox_padded_xyxy]
    positions = _sample_positions(crop_matrices(np.concatenate(list(bbox_padded_xyxy))))
    steps = torch.from_numpy(positions).to(device, non_blocking=True)
    sizes = torch.tensor([frame.shape[:2] for frame in frames_bgr], dtype=torch.int32)
    sizes = sizes.repeat_interleave(torch.tensor(counts), dim=0).to(device, non_blocking=True)
    height, width = sizes[:, 0, None, None], sizes[:, 1, None, None]

    # (n, 256, 256) from the parts that go with the crop's columns and with its rows
    x = (steps[:, 0, None, :] + steps[:, 2, :, None]) >> (POSITION_BITS - FRACTION_BITS)
    y = (steps[:, 1, None, :] + steps[:, 3, :, None]) >> (POSITION_BITS - FRACTION_BITS)
    left, x_fraction = x >> FRACTION_BITS, x & (FRACTIONS - 1)
    top, y_fraction = y >> FRACTION_BITS, y & (FRACTIONS - 1)

    colour_sum = torch.zeros((*x.shape, 3), dtype=torch.int32, device=device)
    mask_sum = torch.zeros_like(x)
    for down in (0, 1):
        for right in (0, 1):
            column, row = left + right, top + down
            weight = (x_fraction if right else FRACTIONS - x_fraction) * (
                y_fraction if down else FRACTIONS - y_fraction
            )
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weight = torch.where(inside, weight, 0)
            pixel = torch.where(inside, row * width + column, 0).long()
            colours, mask_values = _pick(frames_bgr, masks, pixel, counts)
            colour_sum += weight[..., None] * colours
            mask_sum += weight * mask_values

    half, shift = 1 << (2 * FRACTION_BITS - 1), 2 * FRACTION_BITS
    rgb = ((colour_sum + half) >> shift).flip(-1).movedim(-1, 1).long()  # (n, 3, 256, 256)
    levels = torch.from_numpy(normalised_levels()).to(device, non_blocking=True)
    channel = torch.arange(3, device=device)[:, None, None]
    mask = (mask_sum * 255 + half) >> shift >= 1
    return torch.cat([levels[channel, rgb], mask[:, None].float()], dim=1)


def _sample_positions(matrices: Float64[ndarray, "n 2 3"]) -> Int32[ndarray, "n 4 256"]:
    """Where crop pixels look in the frame, 10 fractional bits, split as OpenCV rounds it.

    Rows: x and y parts that go with the crop's column, x and y parts that go with its row.
    """
    a, b, c, d, e, f = matrices.reshape(-1, 6).T[:, :, None]
    determinant = a * e - b * d
    inverse_a, inverse_b, inverse_d, inverse_e = (value / determinant for value in (e, -b, -d, a))
    inverse_c = -inverse_a * c - inverse_b * f
    inverse_f = -inverse_d * c - inverse_e * f
    pixel = np.arange(CROP_SIZE, dtype=np.float64)
    one = 1 << POSITION_BITS
    parts = [
        np.rint(inverse_a * pixel * one),
        np.rint(inverse_d * pixel * one),
        np.rint((inverse_b * pixel + inverse_c) * one) + HALF_FRACTION,
        np.rint((inverse_e * pixel + inverse_f) * one) + HALF_FRACTION,
    ]
    return np.stack(parts, axis=1).clip(-FARTHEST_POSITION, FARTHEST_POSITION).astype(np.int32)


def _pick(
    frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]],
    masks: Sequence[Bool[Tensor, "_ _ _"]],
    pixel: Int64[Tensor, "n 256 256"],
    counts: Sequence[int],
) -> tuple[UInt8[Tensor, "n 256 256 3"], Bool[Tensor, "n 256 256"]]:
    """Colours and mask values at one flat pixel index per person and crop pixel."""
    colours = torch.empty((*pixel.shape, 3), dtype=torch.uint8, device=pixel.device)
    mask_values = torch.empty(pixel.shape, dtype=torch.bool, device=pixel.device)
    first = 0
    for frame, frame_masks, count in zip(frames_bgr, masks, counts, strict=True):
        here = slice(first, first + count)
        first += count
        if count:
            colours[here] = frame.reshape(-1, 3)[pixel[here]]
            flat = frame_masks.reshape(count, -1)
            mask_values[here] = flat.gather(1, pixel[here].reshape(count, -1)).reshape(-1, *pixel.shape[1:])
    return colours, mask_values
