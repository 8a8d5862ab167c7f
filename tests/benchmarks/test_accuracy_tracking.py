"""IDF1, HOTA, switches and MOTA against TrackEval's recorded numbers and on cases whose answers are known."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from benchmarks.accuracy_tracking import Instant, score_tracking
from tests.goldens import load_golden


def instant(true: list[int], found: list[int], similarity: list[list[float]]) -> Instant:
    """A frame."""
    return Instant(
        true=np.array(true, np.int64),
        found=np.array(found, np.int64),
        similarity=np.array(similarity, float).reshape(len(true), len(found)),
    )


def tracked(*tracks: dict[int, int]) -> list[Instant]:
    """Frames in which people 0 and 1 have these tracks, found exactly, or none."""
    return [
        instant([0, 1], list(frame.values()), [[float(p == q) for q in frame] for p in (0, 1)])
        for frame in tracks
    ]


def recorded() -> list[tuple[list[Instant], dict[str, float]]]:
    """Random trackings with TrackEval's scores."""
    return [
        ([instant(**frame) for frame in case["frames"]], case["scores"])
        for case in load_golden("tracking_scores.json")
    ]


def test_scores_are_trackevals():
    """Every score of a dozen random trackings with swaps, breaks, doubles and mistakes is TrackEval's."""
    for clip, scores in recorded():
        assert asdict(score_tracking(clip)) == pytest.approx(scores, abs=1e-9)


def test_names_of_tracks_and_order_in_a_frame_do_not_matter():
    """Other numbers for the tracks and people, and another order of both in each frame, change nothing."""
    rng = np.random.default_rng(0)
    clip, _ = recorded()[3]
    new_name = rng.permutation(10_000)
    shuffled = []
    for frame in clip:
        rows, columns = rng.permutation(len(frame.true)), rng.permutation(len(frame.found))
        shuffled.append(
            Instant(
                true=new_name[frame.true[rows] + 77],
                found=new_name[frame.found[columns]],
                similarity=frame.similarity[np.ix_(rows, columns)],
            )
        )

    assert asdict(score_tracking(shuffled)) == pytest.approx(asdict(score_tracking(clip)), abs=1e-12)


def test_perfect_tracking_is_perfect():
    """One track a person in all frames: everything is 1 and nothing switches."""
    assert score_tracking(tracked(*[{0: 5, 1: 3}] * 10)) == score_tracking(tracked(*[{0: 1, 1: 2}] * 10))
    scores = score_tracking(tracked(*[{0: 1, 1: 2}] * 10))
    assert asdict(scores) == pytest.approx(
        {"idf1": 1, "hota": 1, "det_a": 1, "ass_a": 1, "switches": 0, "mota": 1}
    )


def test_a_swap_half_way_costs_half_of_the_identity():
    """Two people swap tracks after 5 of 10 frames: IDF1 a half, two switches, AssA a third, all found."""
    scores = score_tracking(tracked(*[{0: 1, 1: 2}] * 5, *[{0: 2, 1: 1}] * 5))

    assert scores.idf1 == 0.5
    assert scores.switches == 2
    assert scores.ass_a == pytest.approx(5 / 15)
    assert scores.det_a == 1
    assert scores.mota == pytest.approx(1 - 2 / 20)


def test_a_second_track_on_somebody_is_a_mistake_and_no_switch():
    """A double that fits better in every other frame costs precision, and the first track goes on."""
    frames = []
    for t in range(10):
        double = 0.95 if t % 2 else 0.7
        frames.append(instant([0], [1, 2], [[0.8, double]]))
    scores = score_tracking(frames)

    assert scores.switches == 0
    assert scores.mota == 0  # ten mistakes for ten people
    assert scores.idf1 == pytest.approx(2 * 10 / 30)


def test_a_gap_is_a_miss_and_the_same_track_after_it_no_switch():
    """Lost for three frames and found again as the same: three misses; as another: one switch more."""
    same = score_tracking(tracked(*[{0: 1}] * 4, *[{}] * 3, *[{0: 1}] * 3))
    other = score_tracking(tracked(*[{0: 1}] * 4, *[{}] * 3, *[{0: 9}] * 3))

    assert (same.switches, other.switches) == (0, 1)
    assert same.mota - other.mota == pytest.approx(1 / 20)
    assert same.hota > other.hota


def test_nothing_found_and_nobody_there_have_scores():
    """No track at all is 0, an empty clip too; nothing divides by zero."""
    nothing = score_tracking(tracked({}, {}))
    empty = score_tracking([])

    assert (nothing.idf1, nothing.hota, nothing.mota, nothing.switches) == (0, 0, 0, 0)
    assert (empty.idf1, empty.hota, empty.switches) == (0, 0, 0)


def test_similarity_moves_hota_and_not_idf1():
    """Boxes that fit worse, but well enough: the same IDF1, less HOTA."""
    clip = tracked(*[{0: 1, 1: 2}] * 10)
    worse = [replace(frame, similarity=0.7 * frame.similarity) for frame in clip]

    assert score_tracking(worse).idf1 == 1
    assert score_tracking(worse).hota == pytest.approx(14 / 19)
