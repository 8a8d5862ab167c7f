"""PHALP's cost between tracks and detections, and the assignment.

The texture term needs two passes of a network per pair; it reaches this file as a function and is asked only
for pairs that it can still decide.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from handler.records import DEPTH, INTERVALS, ORIGIN, POSE_CAMERA

# Weights and scales of PHALP's distance EQ_019.
TEXTURE_WEIGHT = 4.0536
POSE_WEIGHT = 1.3070
LOCATION_SCALE = np.float32(0.3792)
DEPTH_SCALE = np.float32(4.1658)
POSE_LIMIT = np.float32(1.5)
FLOOR = np.float32(0.1)

COMPARED = slice(POSE_CAMERA.start)  # rotations and betas; PHALP leaves the camera out of the comparison
REJECTED = 1e-5  # what an impossible pair costs above the threshold
PRUNING_MARGIN = 1e-9  # relative; a product this close to the threshold is not decided without its texture

TextureDistance = Callable[[Int64[ndarray, "p 2"]], Float64[ndarray, " p"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """Who is who in one frame; indices into the tracks before it and into its detections."""

    cost: Float64[ndarray, "t d"]  # of each pair; one over the threshold costs the threshold + 1e-5
    matches: Int64[ndarray, "m 2"]  # (track, detection), ascending by track
    unmatched_tracks: Int64[ndarray, " u"]  # ascending
    unmatched_detections: Int64[ndarray, " v"]  # in the order in which PHALP gives new identities


def squared_distances(a: Float32[ndarray, "t k"], b: Float32[ndarray, "d k"]) -> Float32[ndarray, "t d"]:
    """Squared Euclidean distances, rounded as PHALP rounds them.

    The order of the float32 operations is PHALP's: for a person who hardly moved the result is a difference
    of 1e-7 whose root enters an exponential, so another order moves the cost by up to 1 %.
    """
    squares_a = np.square(a).sum(axis=1)
    squares_b = np.square(b).sum(axis=1)
    distances: Float32[ndarray, "t d"] = np.maximum((-2 * (a @ b.T) + squares_a[:, None]) + squares_b, 0)
    return distances


def cost_factors(
    expected_poses: Float32[ndarray, "t 229"],
    expected_locations: Float32[ndarray, "t 99"],
    poses: Float32[ndarray, "d 229"],
    locations: Float32[ndarray, "d 99"],
) -> tuple[Float64[ndarray, "t d"], Float64[ndarray, "t d"]]:
    """The pose factor, and the product of the location and depth factors.

    Each is at least 1, or infinite, or NaN where a depth is not positive. Poses and locations are vectors,
    those expected of the tracks in this frame (locations with their intervals) and the detections'.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        pose = squared_distances(expected_poses[:, COMPARED], poses[:, COMPARED])
        pose_factor = 1 + POSE_WEIGHT * np.minimum(pose, POSE_LIMIT).astype(np.float64)

        apart = np.sqrt(squared_distances(expected_locations[:, ORIGIN], locations[:, ORIGIN]))
        width_x, width_y, width_depth = expected_locations[:, INTERVALS].T
        vague = np.hypot(width_x, width_y)
        location = np.exp(apart / (FLOOR + np.tanh(vague))[:, None] / LOCATION_SCALE)

        nearer = np.abs(np.log(expected_locations[:, DEPTH][:, None] / locations[:, DEPTH]))
        vague = np.abs(np.log(1 / width_depth))
        depth = np.exp(nearer / (FLOOR + np.tanh(vague))[:, None] / DEPTH_SCALE)
        return pose_factor, location.astype(np.float64) * depth


def pair_costs(
    pose_factor: Float64[ndarray, "t d"],
    place_factor: Float64[ndarray, "t d"],
    texture_distance: TextureDistance,
    threshold: float,
    *,
    upstream_quirks: bool,
) -> Float64[ndarray, "t d"]:
    """What each pair costs, clamped to `threshold + 1e-5`.

    The texture factor is at least 1, so a pair whose other factors already exceed the threshold is over it
    whatever its textures are, and they are not compared.

    A cost that is not a number is over the threshold too; with `upstream_quirks` it is 0, the best of all, as
    in the official code. The texture distance is `r_texture` of (track, detection) index pairs.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        cost = pose_factor * place_factor
        open_pairs = np.argwhere(~(cost > threshold * (1 + PRUNING_MARGIN)))
        if len(open_pairs):
            rows, columns = open_pairs.T
            texture_factor = 1 + TEXTURE_WEIGHT * texture_distance(open_pairs)
            cost[rows, columns] = texture_factor * pose_factor[rows, columns] * place_factor[rows, columns]
    cost[np.isnan(cost)] = 0 if upstream_quirks else np.inf
    clamped: Float64[ndarray, "t d"] = np.where(cost > threshold, threshold + REJECTED, cost)
    return clamped


def assign(cost: Float64[ndarray, "t d"], threshold: float) -> Association:
    """The cheapest assignment of all detections to all tracks, less the pairs over the threshold.

    The costs are clamped: that comes before the assignment and decides some of them.
    """
    num_tracks, num_detections = cost.shape
    rows, columns = linear_sum_assignment(cost)
    good = cost[rows, columns] <= threshold
    free_tracks, unassigned = np.ones(num_tracks, bool), np.ones(num_detections, bool)
    free_tracks[rows[good]] = False
    unassigned[columns] = False
    return Association(
        cost=cost,
        matches=np.stack([rows[good], columns[good]], axis=1),
        unmatched_tracks=np.flatnonzero(free_tracks),
        unmatched_detections=np.concatenate([np.flatnonzero(unassigned), columns[~good]]),
    )
