"""All eight orientations become upright, and pictures of another shape are fitted whole."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.source.picture import Orientation, fit, orientation_of_matrix, turn_upright

ONE = 65536
# a, b, c, d: a stored point (x, y) is shown at (a x + c y, b x + d y).
MIRRORS = [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]
ROTATIONS = {(1, 0, 0, 1): 0, (0, -1, 1, 0): 90, (-1, 0, 0, -1): 180, (0, 1, -1, 0): 270}


def packed(a: float, b: float, c: float, d: float) -> bytes:
    """A display matrix as FFmpeg stores it."""
    return struct.pack("=9i", int(a * ONE), int(b * ONE), 0, int(c * ONE), int(d * ONE), 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("matrix", [*MIRRORS, *ROTATIONS])
def test_turn_upright_follows_the_display_matrix(matrix):
    """Every pixel lands where the matrix says; rotations go by the counter-clockwise angle to apply."""
    a, b, c, d = matrix
    stored = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(3, 5, 3)

    orientation = orientation_of_matrix(packed(*matrix))

    upright = turn_upright(stored, orientation)

    points = {(x, y): (a * x + c * y, b * x + d * y) for x in range(5) for y in range(3)}
    left, top = min(x for x, _ in points.values()), min(y for _, y in points.values())
    assert upright.shape == ((3, 5, 3) if a else (5, 3, 3))
    assert upright.flags.c_contiguous
    for (x, y), (shown_x, shown_y) in points.items():
        np.testing.assert_array_equal(upright[shown_y - top, shown_x - left], stored[y, x])
    if matrix in ROTATIONS:
        assert orientation.rotation_degrees == ROTATIONS[matrix]
        np.testing.assert_array_equal(upright, np.rot90(stored, ROTATIONS[matrix] // 90))


def test_orientation_takes_the_nearest_right_angle_and_ignores_nonsense():
    """Slanted matrices are rounded; one of the wrong length is none."""
    assert orientation_of_matrix(packed(0.9, 0.3, -0.3, 0.9)) == Orientation()
    assert orientation_of_matrix(packed(0.2, -0.9, 0.9, 0.2)).rotation_degrees == 90
    assert orientation_of_matrix(b"short") == Orientation()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_fit_keeps_the_whole_picture(old_width, old_height, width, height):
    """Whatever the sizes, a grey picture is scaled whole into the middle, black beside it."""
    fitted = fit(np.full((old_height, old_width, 3), 100, np.uint8), width, height)

    assert fitted.shape == (height, width, 3)
    rows, columns = (np.unique(axis) for axis in np.nonzero(fitted[:, :, 0]))
    assert len(rows) == height or len(columns) == width
    assert set(np.unique(fitted)) <= {0, 100}
    assert abs((rows[0]) - (height - 1 - rows[-1])) <= 1
    assert abs((columns[0]) - (width - 1 - columns[-1])) <= 1
