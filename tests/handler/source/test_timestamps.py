"""Times grow, good timestamps stay exact, slips and splices are told apart."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.source.timestamps import TimestampRepair

TICK = Fraction(1, 30)


def times(pts: list[int | None], **more) -> list[float]:
    """Seconds given to a row of timestamps."""
    timeline = TimestampRepair(TICK, 30.0, **more)
    return [timeline.place(value)[1] for value in pts]


def test_timeline_keeps_good_timestamps_exactly():
    """Any growing timestamps pass unchanged, counted from the first, whatever the header's rate."""
    timeline = TimestampRepair(Fraction(1, 90_000), 1.0)
    pts = [7000, 7001, 10_003, 100_000, 9_000_000]

    placed = [timeline.place(value) for value in pts]

    assert [ticks for ticks, _ in placed] == pts
    assert [seconds for _, seconds in placed] == [(value - 7000) / 90_000 for value in pts]
    assert timeline.num_repaired == 0


def test_timeline_fills_in_missing_timestamps():
    """A frame without a timestamp comes one step after the last."""
    timeline = TimestampRepair(TICK, 30.0)
    assert [timeline.place(value)[0] for value in (5, None, None, 8)] == [5, 6, 7, 8]


def test_timeline_moves_a_frame_out_of_place_behind_its_forerunner():
    """A single frame that lies behind does not move the frames after it."""
    for may_restart in (True, False):
        placed = times([0, 1, 2, 9, 3, 10, 11], may_restart=may_restart)
        assert placed[:4] == [0, 1 / 30, 2 / 30, 9 / 30]
        assert 9 / 30 < placed[4] < 10 / 30
        assert placed[5:] == [10 / 30, 11 / 30]


def test_timeline_survives_a_row_of_frames_out_of_place_in_an_indexed_file():
    """Where time cannot begin anew, frames after any number of stragglers are back on their own times."""
    placed = times([0, 9, 3, 4, 5, 10], may_restart=False)

    assert placed == sorted(set(placed))
    assert placed[-1] == 10 / 30


def test_timeline_joins_spliced_stretches():
    """Where time may begin anew, a second stretch follows the first without a gap or an overlap."""
    placed = times([*range(100, 120), *range(100, 120)])

    assert placed[:20] == [tick / 30 for tick in range(20)]
    assert placed[21:] == pytest.approx([tick / 30 for tick in range(21, 40)])
    assert 19 / 30 < placed[20] < 21 / 30


@given(
    st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=60),
    st.sampled_from([Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1, 1000)]),
    st.booleans(),
)
def test_timeline_always_grows(pts, time_base, may_restart):
    """Whatever the timestamps, times strictly grow and begin at zero."""
    timeline = TimestampRepair(time_base, None, may_restart=may_restart)
    placed = [timeline.place(value)[1] for value in pts]

    assert all(later > earlier for earlier, later in itertools.pairwise(placed))
    assert placed[:1] in ([], [0.0])
