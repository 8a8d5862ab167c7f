"""Who is judged: hits, misses, mistakes, and people hardly seen, who are none of them."""

import numpy as np
import pytest

from benchmarks.accuracy_matching import judge

COUNTS = np.array([True, True, False])  # the third is hardly seen


def judged(*rows: list[float]):
    """Rows are true people, columns found ones."""
    return judge(np.array(rows, float).reshape(3, -1), COUNTS)


def test_hits_misses_and_mistakes():
    """A pair is a hit, a found person without one a mistake, a true one without a miss."""
    frame = judged([0.9, 0.0], [0.4, 0.1], [0.0, 0.0])

    assert frame.pairs == ((0, 0),)
    assert frame.true.tolist() == [0, 1]
    assert frame.found.tolist() == [0, 1]
    assert frame.similarity.tolist() == [[0.9, 0.0], [0.4, 0.1]]


def test_who_is_hardly_seen_may_be_found_or_not():
    """Found or not, the third person changes no count."""
    found = judged([0.9, 0.0], [0.0, 0.0], [0.0, 0.8])
    not_found = judged([0.9], [0.0], [0.0])

    assert found.pairs == not_found.pairs
    assert found.found.tolist() == not_found.found.tolist() == [0]


def test_a_box_around_a_visible_arm_is_no_mistake():
    """Somebody unpaired near an ignored person is not judged; one near a person who counts is a mistake."""
    assert judged([0.9, 0.0], [0.0, 0.0], [0.0, 0.3]).found.tolist() == [0]
    assert judged([0.9, 0.3], [0.0, 0.0], [0.0, 0.0]).found.tolist() == [0, 1]


def test_a_hit_stays_one_beside_somebody_ignored():
    """Whoever is paired with a person who counts is judged, however near an ignored one stands."""
    frame = judged([0.8], [0.0], [0.45])

    assert frame.pairs == ((0, 0),)
    assert frame.found.tolist() == [0]


@pytest.mark.parametrize("num_found", [0, 2])
def test_empty_frames(num_found):
    """Nobody found, or nobody there: misses, or mistakes."""
    nobody_there = judge(np.zeros((0, num_found)), np.zeros(0, bool))
    frame = judge(np.zeros((3, num_found)), COUNTS)

    assert nobody_there.found.tolist() == list(range(num_found))
    assert frame.true.tolist() == [0, 1]
    assert frame.pairs == nobody_there.pairs == ()
