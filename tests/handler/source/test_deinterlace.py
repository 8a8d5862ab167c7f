"""Two fields of different moments become one picture; what did not move stays as it is."""

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.source.picture import deinterlace


def planes_of(picture: av.VideoFrame) -> list[np.ndarray]:
    """The samples of each plane, without padding."""
    wide = picture.format.components[0].bits > 8
    sample = np.dtype((">u2" if picture.format.is_big_endian else "<u2") if wide else "u1")
    return [
        np.frombuffer(plane, sample).reshape(plane.height, -1)[:, : plane.width] for plane in picture.planes
    ]


def noise(pixel_format: str, seed: int, width: int = 32, height: int = 18) -> av.VideoFrame:
    """A picture of random samples."""
    picture = av.VideoFrame(width, height, pixel_format)
    top = 1 << picture.format.components[0].bits
    for number, rows in enumerate(planes_of(picture)):
        rows[:] = np.random.default_rng([seed, number]).integers(0, top, rows.shape)
    return picture


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv422p10be", "gray", "yuv444p12le"])
@given(seed=st.integers(0, 1000), height=st.integers(1, 20))
def test_the_lower_field_lies_between_its_neighbours(pixel_format, seed, height):
    """In every plane, whatever the depth, the upper field stays and no other line stands out."""
    picture = noise(pixel_format, seed, height=height)
    before = [rows.copy() for rows in planes_of(picture)]

    deinterlace(picture)

    for old, new in zip(before, planes_of(picture), strict=True):
        np.testing.assert_array_equal(new[0::2], old[0::2])
        for row in range(1, len(new), 2):
            neighbours = new[[row - 1, row + 1 if row + 1 < len(new) else row - 1]]
            expected = np.clip(old[row], neighbours.min(axis=0), neighbours.max(axis=0))
            np.testing.assert_array_equal(new[row], expected)


def test_a_still_slope_is_left_as_it_is():
    """Progressive pictures that are only marked as interlaced keep their full height."""
    picture = av.VideoFrame(32, 18, "yuv420p")
    for rows in planes_of(picture):
        rows[:] = np.arange(rows.shape[0])[:, None] * 7 + np.arange(rows.shape[1])
    before = [rows.copy() for rows in planes_of(picture)]

    deinterlace(picture)

    for old, new in zip(before, planes_of(picture), strict=True):
        np.testing.assert_array_equal(new[:-1], old[:-1])
