"""PHALP's location prediction, cost and assignment: their terms, exact pruning, order, and faults."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.people.association import assign, cost_factors, pair_costs, squared_distances
from handler.people.motion import predict_locations
from handler.records import DEPTH

THRESHOLD = 100.0


def test_squared_distances_round_as_phalps():
    """float32 in PHALP's order: the two squares are added to the product one after the other."""
    a = np.array([[0.6531, 0.4812]], np.float32)
    b = np.array([[0.6532, 0.4813]], np.float32)
    product = np.float32(-2) * (a @ b.T)
    in_order = (product + np.square(a).sum()) + np.square(b).sum()

    assert np.maximum(in_order, 0) == squared_distances(a, b)
    assert np.float32 == squared_distances(a, b).dtype


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 30))
@settings(max_examples=60, deadline=None)
def test_pruning_changes_no_cost(seed, scale):
    """Leaving out the textures of pairs that are over the threshold anyway gives the same table."""
    rng = np.random.default_rng(seed)
    pose = 1 + rng.uniform(0, 1.96, (5, 4))
    place = np.exp(rng.uniform(0, scale, (5, 4)))
    r = rng.uniform(0, 5, (5, 4))
    asked = np.zeros((5, 4), bool)

    def texture_distance(pairs):
        asked[pairs[:, 0], pairs[:, 1]] = True
        return r[pairs[:, 0], pairs[:, 1]]

    cost = pair_costs(pose, place, texture_distance, THRESHOLD, upstream_quirks=False)
    full = (1 + 4.0536 * r) * pose * place

    np.testing.assert_array_equal(cost, np.where(full > THRESHOLD, THRESHOLD + 1e-5, full))
    np.testing.assert_array_equal(asked, ~(pose * place > THRESHOLD * (1 + 1e-9)))


def test_a_cost_that_is_no_number_matches_nobody():
    """Official fault: NaN becomes 0, the best of all costs; here such a pair is over the threshold."""
    place = np.array([[np.nan, 2.0], [3.0, np.inf]])
    ones = np.ones((2, 2))

    def no_texture(pairs):
        return np.zeros(len(pairs))

    right = pair_costs(ones, place, no_texture, THRESHOLD, upstream_quirks=False)
    official = pair_costs(ones, place, no_texture, THRESHOLD, upstream_quirks=True)
    over = THRESHOLD + 1e-5

    np.testing.assert_array_equal([[over, 2], [3, over]], right)
    np.testing.assert_array_equal([[0, 2], [3, over]], official)


def test_bodies_behind_the_camera_have_no_cost():
    """A depth that is not positive has no logarithm; its pairs are over the threshold, without a warning."""
    poses, locations = np.zeros((2, 229), np.float32), np.full((2, 99), 0.5, np.float32)
    behind = locations.copy()
    behind[1, DEPTH] = -40
    _, place = cost_factors(poses, locations, poses, behind)

    np.testing.assert_array_equal([[False, True], [False, True]], np.isnan(place))


def test_assign_clamps_before_it_solves():
    """The assignment sees clamped costs: a hopeless pair costs no more than the threshold."""
    raw = np.array([[1.0, 60.0], [70.0, 1000.0]])
    clamped = np.minimum(raw, THRESHOLD + 1e-5)
    association = assign(clamped, THRESHOLD)

    assert association.matches.tolist() == [[0, 0]]
    assert association.unmatched_tracks.tolist() == [1]
    assert association.unmatched_detections.tolist() == [1]


def test_assign_gives_new_identities_in_phalps_order():
    """First the detections without a track, ascending, then those whose pair was rejected, by track."""
    over = THRESHOLD + 1e-5
    cost = np.full((2, 5), over + 1)
    cost[0, 0] = over  # still too much, but the best that is left
    cost[1, 3] = 5.0
    association = assign(cost, THRESHOLD)

    assert association.matches.tolist() == [[1, 3]]
    assert association.unmatched_tracks.tolist() == [0]
    assert association.unmatched_detections.tolist() == [1, 2, 4, 0]


@given(shape=st.tuples(st.integers(0, 6), st.integers(0, 6)), seed=st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_assign_uses_everybody_once(shape, seed):
    """Each track and each detection is matched or unmatched exactly once, and no match is too costly."""
    cost = np.random.default_rng(seed).uniform(0, 150, shape)
    cost = np.where(cost > THRESHOLD, THRESHOLD + 1e-5, cost)
    association = assign(cost, THRESHOLD)
    tracks = [*association.matches[:, 0].tolist(), *association.unmatched_tracks.tolist()]
    detections = [*association.matches[:, 1].tolist(), *association.unmatched_detections.tolist()]

    assert list(range(cost.shape[0])) == sorted(tracks)
    assert list(range(cost.shape[1])) == sorted(detections)
    assert all(cost[row, column] <= THRESHOLD for row, column in association.matches)


def test_predict_locations_is_phalps(golden):
    """All golden histories: regular, padded, with gaps, long lost; NaN exactly where the official has it."""
    data = golden("location")
    predicted = predict_locations(data["loca"], data["times"], data["time_since_update"])

    np.testing.assert_allclose(predicted, data["out"], rtol=2e-5, atol=1e-7)
