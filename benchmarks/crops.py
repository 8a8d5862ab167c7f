"""Crops and mask encoding against the simplest correct version: `python -m benchmarks.crops`.

Five people in a 1080p frame, on one core; with a GPU also there (`--device cuda`).
"""

import argparse

import cv2
import numpy as np
import torch

from benchmarks.timing import best_ms, print_head, print_row
from model_cache.networks.crops import (
    MEAN_RGB,
    STD_RGB,
    crop_matrices,
    crop_people,
    crop_people_on_device,
    pad_boxes,
)
from model_cache.networks.rle import encode_mask

NUM_PEOPLE = 5
SIZE = (1080, 1920)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    device = parser.parse_args().device
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    image, boxes, masks = scene()
    padded = pad_boxes(boxes)
    print_head(f"crops and masks, {SIZE[1]}x{SIZE[0]}, {device}, one core, ms a person")

    expected = plain_crops(image, padded, masks)
    ours = crop_people(image, padded, masks)
    assert np.allclose(expected, ours, atol=1e-5), "the two ways of cropping disagree"
    plain_ms = best_ms(lambda: plain_crops(image, padded, masks), repeats=3) / NUM_PEOPLE
    opencv_ms = best_ms(lambda: crop_people(image, padded, masks)) / NUM_PEOPLE
    print_row("crop with OpenCV", plain_ms, opencv_ms)

    frame, frame_masks = torch.from_numpy(image).to(device), torch.from_numpy(masks).to(device)
    on_device = crop_people_on_device([frame], [padded], [frame_masks])
    assert np.array_equal(ours, on_device.cpu().numpy()), "the device's crops are not OpenCV's"
    device_ms = best_ms(lambda: crop_people_on_device([frame], [padded], [frame_masks]), device=device)
    print_row(f"crop in torch on {device}", plain_ms, device_ms / NUM_PEOPLE)
    print("  (the CPU uses OpenCV; the torch crop is for frames that already lie on a GPU)")

    assert [plain_counts(mask) for mask in masks] == [encode_mask(mask) for mask in masks]
    print_row(
        "mask as run lengths",
        best_ms(lambda: [plain_counts(mask) for mask in masks], repeats=2) / NUM_PEOPLE,
        best_ms(lambda: [encode_mask(mask) for mask in masks]) / NUM_PEOPLE,
    )


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame of noise, people's boxes and elliptic masks."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    boxes = np.array([[80 + 350 * i, 150, 380 + 350 * i, 950] for i in range(NUM_PEOPLE)], np.float32)
    masks = []
    for x1, y1, x2, y2 in boxes.astype(int).tolist():
        canvas = np.zeros(SIZE, np.uint8)
        centre, axes = ((x1 + x2) // 2, (y1 + y2) // 2), ((x2 - x1) // 2, (y2 - y1) // 2)
        masks.append(cv2.ellipse(canvas, centre, axes, 0, 0, 360, 1, -1).astype(bool))
    return image, boxes, np.stack(masks)


def plain_crops(image: np.ndarray, padded: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Person by person: a copy of the frame, the mask as three wide channels, float64 normalisation."""
    crops = []
    for matrix, mask in zip(crop_matrices(padded), masks, strict=True):
        three = np.repeat(mask.astype(int)[:, :, None] * 255, 3, axis=2).astype(np.uint8)
        colours = cv2.warpAffine(image.copy(), matrix, (256, 256), flags=cv2.INTER_LINEAR)[..., ::-1]
        warped = cv2.warpAffine(three, matrix, (256, 256), flags=cv2.INTER_LINEAR)
        normalised = (colours.astype(float) - MEAN_RGB) / STD_RGB
        crop = np.concatenate([normalised, (warped[..., :1] >= 1)], axis=2)
        crops.append(crop.transpose(2, 0, 1).astype(np.float32))
    return np.stack(crops)


def plain_counts(mask: np.ndarray) -> str:
    """Run lengths of the whole frame column by column, encoded number by number."""
    flat = np.asfortranarray(mask).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    if flat[0]:
        counts = [0, *counts]
    text = []
    for place, count in enumerate(counts):
        rest = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            group = rest & 31
            rest >>= 5
            more = rest != -1 if group & 16 else rest != 0
            text.append(chr(48 + group + (32 if more else 0)))
    return "".join(text)


if __name__ == "__main__":
    main()
