"""Who is judged: hits, misses, mistakes, and people hardly seen, who are none of them."""

import numpy as np
import pytest

from benchmarks.accuracy_matching import judge

COUNTS = np.array([True, True, False])  # the third is hardly seen


@pytest.mark.parametrize(
    ("rows", "pairs", "found"),
    [
        ([[0.9, 0.0], [0.4, 0.1], [0.0, 0.0]], ((0, 0),), [0, 1]),  # a hit, a mistake, a miss
        (
            [[0.9, 0.0], [0.0, 0.0], [0.0, 0.8]],
            ((0, 0),),
            [0],
        ),  # the third is found, which counts for nothing
        ([[0.9], [0.0], [0.0]], ((0, 0),), [0]),  # or is not found
        ([[0.9, 0.0], [0.0, 0.0], [0.0, 0.3]], ((0, 0),), [0]),  # a box around the third's visible arm
        (
            [[0.9, 0.3], [0.0, 0.0], [0.0, 0.0]],
            ((0, 0),),
            [0, 1],
        ),  # the same of somebody who counts: a mistake
        ([[0.8], [0.0], [0.45]], ((0, 0),), [0]),  # a hit near the third stays one
        (np.zeros((3, 0)), (), []),
        (np.zeros((3, 2)), (), [0, 1]),
    ],
)
def test_people_are_judged_by_the_rules(rows, pairs, found):
    """Rows are true people, columns found ones; those who count are always expected."""
    similarity = np.array(rows, float)
    frame = judge(similarity, COUNTS)

    assert (frame.pairs, frame.true.tolist(), frame.found.tolist()) == (pairs, [0, 1], found)
    assert frame.similarity.tolist() == similarity[:2, found].tolist()


@pytest.mark.parametrize("num_found", [0, 2])
def test_everybody_found_is_a_mistake_where_nobody_is(num_found):
    """A frame without people."""
    frame = judge(np.zeros((0, num_found)), np.zeros(0, bool))

    assert (frame.pairs, frame.found.tolist()) == ((), list(range(num_found)))
