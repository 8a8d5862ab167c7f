"""Columns of people: rows taken and joined, and the vectors made of them."""

import numpy as np
import pytest

from handler.records import CAM_T, POSE_CAMERA, PlacedPeople, location_vectors, pose_vectors
from tests.handler.people.people_to_track import person


def test_vectors_are_made_row_by_row():
    """What a group's tables hold of a person is what that person alone gives, and where the layout says."""
    one_by_one = [person(who, 3, depth=40.0 + who) for who in range(4)]
    people = PlacedPeople.concat(one_by_one)

    for vectors in (pose_vectors, location_vectors):
        alone = np.concatenate([vectors(one) for one in one_by_one])
        np.testing.assert_array_equal(alone, vectors(people))
    np.testing.assert_array_equal(people.cam_t, location_vectors(people)[:, CAM_T])
    expected = (people.cam_t / [1, 1, 200]).astype(np.float32)
    np.testing.assert_array_equal(expected, pose_vectors(people)[:, POSE_CAMERA])


@pytest.mark.parametrize("rows", [[2, 0], [], np.array([1, 1, 3])])
def test_rows_are_taken_in_order_from_every_column(rows):
    """Arrays, textures and absent columns alike; the new record shares no memory with the old one."""
    people = PlacedPeople.concat([person(who, who) for who in range(4)])

    taken = people.take(rows)

    assert len(taken) == len(rows)
    assert taken.textures == tuple(people.textures[row] for row in rows)
    assert taken.mask_rle is None
    np.testing.assert_array_equal(taken.betas, people.betas[np.array(rows, int)])
    assert not np.shares_memory(taken.rotations, people.rotations)
