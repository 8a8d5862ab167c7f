"""IDF1, HOTA, switches and MOTA against TrackEval's recorded numbers and on cases whose answers are known."""

from dataclasses import asdict

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


def shuffled(clip: list[Instant]) -> list[Instant]:
    """The same under other numbers for tracks and people, and in another order in each frame."""
    rng = np.random.default_rng(0)
    new_name = rng.permutation(10_000)
    frames = []
    for frame in clip:
        rows, columns = rng.permutation(len(frame.true)), rng.permutation(len(frame.found))
        true, found = new_name[frame.true[rows] + 77], new_name[frame.found[columns]]
        frames.append(Instant(true=true, found=found, similarity=frame.similarity[np.ix_(rows, columns)]))
    return frames


@pytest.mark.parametrize("case", load_golden("tracking_scores.json"), ids=lambda _: "")
def test_scores_are_trackevals(case):
    """Every score of a random tracking with swaps, breaks, doubles and mistakes; names and order are free."""
    clip = [instant(**frame) for frame in case["frames"]]

    assert asdict(score_tracking(clip)) == pytest.approx(case["scores"], abs=1e-9)
    assert asdict(score_tracking(shuffled(clip))) == pytest.approx(case["scores"], abs=1e-9)


def test_a_swap_half_way_costs_half_of_the_identity():
    """Two people swap tracks after 5 of 10 frames: IDF1 a half, two switches, AssA a third, all found."""
    scores = score_tracking(tracked(*[{0: 1, 1: 2}] * 5, *[{0: 2, 1: 1}] * 5))

    assert (scores.idf1, scores.switches, scores.det_a) == (0.5, 2, 1)
    assert (scores.ass_a, scores.mota) == pytest.approx((5 / 15, 1 - 2 / 20))


@pytest.mark.parametrize("clip", [tracked({}, {}), []], ids=["nothing found", "nobody there"])
def test_nothing_found_and_nobody_there_have_scores(clip):
    """All are 0; nothing divides by zero. MOTA of an empty clip, 1, says that there was no mistake."""
    scores = score_tracking(clip)

    assert (scores.idf1, scores.hota, scores.switches, scores.mota) == (0, 0, 0, 0 if clip else 1)
