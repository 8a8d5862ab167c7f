"""Encodes full-frame masks as COCO compressed run lengths."""

import numpy as np
from jaxtyping import Bool, Int64
from numpy import ndarray

GROUP_BITS = 5  # a character carries five bits of a number and one that says whether more follow


def encode_mask(mask: Bool[ndarray, "h w"]) -> str:
    """The `counts` string that pycocotools would give for the mask.

    Only the rectangle that holds the mask is turned and scanned; the work grows with the person, not with
    the frame, but for one look at every pixel.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return _compress(np.array([mask.size]))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    starts, ends = _column_runs(box)
    height = mask.shape[0]
    # from the box's columns (each one longer by a zero) to places in the column-by-column scan of the frame
    column, row = np.divmod(np.stack([starts, ends]), box.shape[0] + 1)
    places = (column + columns[0]) * height + row + rows[0]
    apart = places[0, 1:] != places[1, :-1]  # runs that go on in the next column are one
    starts, ends = places[0][np.append(True, apart)], places[1][np.append(apart, True)]
    changes = np.stack([starts, ends], axis=1).ravel()
    counts = np.diff(changes, prepend=0)
    zeros_left = mask.size - changes[-1]
    return _compress(np.append(counts, zeros_left) if zeros_left else counts)


def _column_runs(box: Bool[ndarray, "h w"]) -> tuple[Int64[ndarray, " r"], Int64[ndarray, " r"]]:
    """First and one-past-last place of each run of ones, columns laid end to end with a zero after each."""
    height, width = box.shape
    scan = np.zeros(1 + width * (height + 1), np.int8)
    scan[1:].reshape(width, height + 1)[:, :height] = box.T
    steps = np.diff(scan)
    return np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)


def _compress(counts: Int64[ndarray, " n"]) -> str:
    """COCO's text for run lengths: differences to two places earlier, five bits a character, lowest first."""
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    characters, used = [], []
    open_numbers = np.ones(len(rest), bool)
    while open_numbers.any():
        group = rest & (2**GROUP_BITS - 1)
        rest >>= GROUP_BITS
        sign_is_told = np.where(group >> (GROUP_BITS - 1), rest == -1, rest == 0)
        characters.append(48 + group + (~sign_is_told << GROUP_BITS))
        used.append(open_numbers)
        open_numbers = open_numbers & ~sign_is_told
    text = np.stack(characters, axis=1)[np.stack(used, axis=1)]
    return bytes(text.astype(np.uint8)).decode("ascii")
