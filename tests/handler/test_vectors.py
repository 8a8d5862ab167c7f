"""People as records and as vectors."""

import numpy as np

from handler.vectors import location_vectors, pose_vectors, without_texture
from tests.handler.people.worlds import person


def test_vectors_of_a_group_are_those_of_each_person():
    """The tables for the tracker hold, row by row, what each record says of itself."""
    people = [person(who, 3, depth=40.0 + who) for who in range(4)]

    np.testing.assert_array_equal(np.stack([one.pose_vector for one in people]), pose_vectors(people))
    np.testing.assert_array_equal(np.stack([one.location_vector for one in people]), location_vectors(people))


def test_without_texture_changes_nothing_else():
    """Only the handle goes."""
    one = person(0, 0)
    bare = without_texture(one)

    assert bare.texture is None
    assert one.texture is not None
    assert one.body_pose is bare.body_pose
