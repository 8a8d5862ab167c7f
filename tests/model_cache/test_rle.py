"""Mask encoding against pycocotools, which reads what we write."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from model_cache.networks.rle import encode_mask


def by_pycocotools(mask):
    """The reference encoder's counts."""
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_golden_masks_have_phalps_counts(golden):
    """The ten golden masks, one all ones and one of two pixels, give PHALP's strings."""
    data = golden("preprocess")
    masks = np.unpackbits(data["masks_packed"], axis=-1).astype(bool)
    assert list(data["rle_counts"]) == [encode_mask(mask) for mask in masks]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=30)))
def test_mask_survives_encoding(mask):
    """Any mask has the counts that pycocotools gives it, and decoding them gives the mask back."""
    counts = encode_mask(mask)
    assert by_pycocotools(mask) == counts
    decoded = coco.decode({"size": list(mask.shape), "counts": counts.encode()})
    np.testing.assert_array_equal(mask, decoded)


@given(st.integers(0, 400), st.integers(0, 700), st.integers(1, 400), st.integers(1, 700))
def test_rectangle_in_a_large_frame_survives_encoding(top, left, height, width):
    """Runs of thousands of pixels, which need several characters each, are encoded as by pycocotools."""
    mask = np.zeros((401, 701), bool)
    mask[top : top + height, left : left + width] = True
    assert by_pycocotools(mask) == encode_mask(mask)


@pytest.mark.parametrize("view", [np.asfortranarray, lambda mask: mask[::2, ::-1], lambda mask: mask.T])
def test_memory_order_does_not_matter(view):
    """Strided, turned and column-major masks are encoded like any other."""
    mask = view(np.random.default_rng(1).random((64, 48)) > 0.6)
    assert by_pycocotools(mask) == encode_mask(mask)
