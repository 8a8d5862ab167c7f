"""Whose a pixel is when people stand close together."""

import numpy as np
import pytest

from model_cache.lite.pixel_owners import distance_to, nearest_person, share_out

SIZE = (120, 160)
UPRIGHT = np.array(
    [(0, -40), (2, -42), (-2, -42), (3, -41), (-3, -41),  # face
     (8, -30), (-8, -30), (10, -12), (-10, -12), (11, 4), (-11, 4),  # arms
     (5, 0), (-5, 0), (5, 22), (-5, 22), (5, 44), (-5, 44)],  # legs
    np.float32,
)  # fmt: skip


def standing_at(x, y=60, score=0.9):
    """COCO's key points of somebody whose hips are at (x, y)."""
    points = UPRIGHT + np.array([x, y], np.float32)
    return np.concatenate([points, np.full((17, 1), score)], axis=1).astype(np.float32)


def test_distance_is_zero_on_the_bones_and_counts_torso_lengths():
    """A pixel 30 px beside a leg is a torso length away, less half a leg's width."""
    distance = distance_to(standing_at(80), SIZE)

    assert distance[45, 80] == 0  # in the trunk
    assert distance[82, 85] == 0  # on the left knee
    assert distance[100, 85 + 30] == pytest.approx(1 - 0.14, abs=0.06)


def test_each_of_two_people_claims_their_own_side():
    """Pixels go to the nearer bones; far ones, and unsure key points, to nobody."""
    unsure = standing_at(5, 5, score=0.02)
    owners = nearest_person(
        [distance_to(points, SIZE) for points in (standing_at(60), standing_at(90), unsure)]
    )

    assert owners[50, 60] == 0
    assert owners[50, 90] == 1
    assert owners[50, 74] == 0
    assert owners[50, 76] == 1
    assert owners[5, 5] == -1


def test_a_shared_pixel_goes_to_the_nearer_bones_and_a_free_one_stays():
    """Masks that run over into a neighbour are cut where the neighbour is nearer, and nowhere else."""
    whole = np.ones(SIZE, bool)
    right_only = np.zeros(SIZE, bool)
    right_only[:, 70:] = True
    left, right = share_out(
        [whole, right_only],
        [distance_to(standing_at(60), SIZE), distance_to(standing_at(90), SIZE)],
        [104, 104],
    )

    assert not (left & right).any()
    assert (left | right).all()
    assert left[:, :70].all()
    assert right[50, 80]


@pytest.mark.parametrize("nearer", [0, 1])
def test_on_the_bones_of_both_the_lower_feet_win(nearer):
    """Of two people in line the one who stands lower in the image is in front."""
    whole = np.ones(SIZE, bool)
    feet = [90.0, 90.0]
    feet[nearer] = 104.0
    shares = share_out([whole, whole], [distance_to(standing_at(80), SIZE)] * 2, feet)

    assert shares[nearer][50, 80]
    assert not shares[1 - nearer][50, 80]
