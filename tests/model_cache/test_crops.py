"""Boxes, crops and masks: PHALP's golden bytes, OpenCV and pycocotools, and what must hold for any box."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from model_cache.networks.crops import (
    CROP_SIZE,
    crop_matrices,
    crop_people,
    crop_people_on_device,
    pad_boxes,
    warp_people,
)
from model_cache.networks.rle import encode_mask

corner = st.floats(-300, 900, width=32)
side = st.floats(2, 1200, width=32)
numbers = st.tuples(corner, corner, side, side)
boxes = numbers.map(lambda n: np.array([[n[0], n[1], n[0] + n[2], n[1] + n[3]]], np.float32))


@pytest.fixture(scope="module")
def people(golden):
    """The golden frame with its ten padded boxes and masks."""
    data = golden("preprocess")
    data["masks"] = np.unpackbits(data["masks_packed"], axis=-1).astype(bool)
    return data


def test_padded_boxes_are_those_of_phalp(people):
    """Boxes grow to the golden ones to the last bit, and the golden crop centres and sizes are theirs."""
    padded = pad_boxes(people["boxes"])
    np.testing.assert_array_equal(people["boxes_padded"], padded)
    np.testing.assert_allclose(people["center_pad"], (padded[:, :2] + padded[:, 2:]) / 2, atol=1e-4)
    np.testing.assert_allclose(people["scale_pad"], padded[:, 2:] - padded[:, :2], atol=1e-4)


@given(boxes)
def test_padded_box_holds_the_box_around_the_same_centre(box):
    """A padded box contains its box, keeps its centre, grows one side only and has the aspect 192:256."""
    padded = pad_boxes(box)
    grown = np.concatenate([box[:, :2] - padded[:, :2], padded[:, 2:] - box[:, 2:]])
    assert (grown >= -1e-3).all()
    assert grown.max(axis=0).min() < 1e-3
    np.testing.assert_allclose(box[:, :2] + box[:, 2:], padded[:, :2] + padded[:, 2:], atol=1e-3)
    width, height = (padded[:, 2:] - padded[:, :2])[0]
    assert width * 256 == pytest.approx(height * 192, abs=0.1)


def test_crops_are_those_of_phalp(people):
    """Warped bytes and the colours made of them are the golden ones; any touch of a mask counts."""
    images, masks = warp_people(people["image"], people["boxes_padded"], people["masks"])
    crops = crop_people(people["image"], people["boxes_padded"], people["masks"])
    np.testing.assert_array_equal(people["warped_bgr"], images)
    np.testing.assert_array_equal(people["warped_mask"], masks)
    assert ((masks > 0) & (masks < 128)).any()  # which a threshold of one half would lose
    np.testing.assert_array_equal(crops[:, 3], masks > 0)
    np.testing.assert_allclose(crops[0, :3], people["crop_full_0"][:3], atol=1e-5)
    np.testing.assert_allclose(crops[:, :3, ::4, ::4], people["crop_sub4"][:, :3], atol=1e-5)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_gpu)])
def test_device_crops_equal_opencv(people, device):
    """People of several frames, of whom some leave the image, are the OpenCV crops bit for bit, in order."""
    rng = np.random.default_rng(5)
    images, padded, masks = [people["image"]], [people["boxes_padded"]], [people["masks"]]
    for size, count in (((80, 120), 2), ((40, 40), 0), ((200, 90), 1)):
        corners = rng.uniform(-20, 60, (count, 2))
        images.append(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        padded.append(pad_boxes(np.concatenate([corners, corners + 50], axis=1).astype(np.float32)))
        masks.append(rng.random((count, *size)) > 0.5)
    on_device = [[torch.from_numpy(array).to(device) for array in arrays] for arrays in (images, masks)]
    found = crop_people_on_device(on_device[0], padded, on_device[1])
    expected = [crop_people(*frame) for frame in zip(images, padded, masks, strict=True)]
    np.testing.assert_array_equal(np.concatenate(expected), found.cpu().numpy())


@settings(max_examples=25, deadline=None)
@given(boxes, st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_device_crop_equals_opencv_for_any_box_and_frame(box, height, width, seed):
    """Noise in frames of any size, through any box, gives the same bits on the device as in OpenCV."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = rng.random((1, height, width)) > 0.9
    padded = pad_boxes(box)
    expected = crop_people(image, padded, mask)
    found = crop_people_on_device([torch.from_numpy(image)], [padded], [torch.from_numpy(mask)])
    np.testing.assert_array_equal(expected, found.numpy())


def test_frames_without_people_give_no_crops():
    """No people is an empty batch in both ways of cropping, not an error."""
    image, masks = np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8), bool)
    padded = pad_boxes(np.zeros((0, 4), np.float32))
    found = crop_people_on_device([torch.from_numpy(image)], [padded], [torch.from_numpy(masks)])
    assert crop_people(image, padded, masks).shape == tuple(found.shape) == (0, 4, CROP_SIZE, CROP_SIZE)


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [5, 5, 1, 1], [0, 0, np.nan, 5], [0, 0, np.inf, 5]])
def test_box_without_size_is_refused(box):
    """A box with no area or with numbers that are not finite cannot be cropped and says so."""
    with pytest.raises(ValueError, match="no size or is not finite"):
        crop_matrices(np.array([box], np.float32))


def by_pycocotools(mask):
    """The reference encoder's counts."""
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_golden_masks_have_phalps_counts(people):
    """The ten golden masks, one all ones and one of two pixels, give PHALP's strings."""
    assert list(people["rle_counts"]) == [encode_mask(mask) for mask in people["masks"]]


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
