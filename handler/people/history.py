"""The last observations of every live track, as arrays.

One row per live track. A table of arrays rather than an object per track: prediction and cost are then a few
array operations per frame, however many people there are.
"""

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy import ndarray

from handler.records import LOCATION_SIZE, POSE_SIZE


class Histories:
    """Vectors of the last t observations of each track, oldest first, and what is expected of it next.

    Memory: t x 1.3 KB per live track.

    Attributes:
        poses: pose vectors of the observations.
        locations: location vectors of the observations.
        times: frame indices of the observations.
        expected_poses: pose vector expected in the next frame.
        expected_locations: location vector expected in the next frame.
    """

    poses: Float32[ndarray, "n t 229"]
    locations: Float32[ndarray, "n t 99"]
    times: Int64[ndarray, "n t"]
    expected_poses: Float32[ndarray, "n 229"]
    expected_locations: Float32[ndarray, "n 99"]

    def __init__(self, span: int) -> None:
        """Make an empty table for `span` observations per track."""
        self._span = span
        self.poses = np.empty((0, span, POSE_SIZE), np.float32)
        self.locations = np.empty((0, span, LOCATION_SIZE), np.float32)
        self.times = np.empty((0, span), np.int64)
        self.expected_poses = np.empty((0, POSE_SIZE), np.float32)
        self.expected_locations = np.empty((0, LOCATION_SIZE), np.float32)

    def __len__(self) -> int:
        return len(self.times)

    def observe(
        self,
        rows: Int64[ndarray, " m"],
        poses: Float32[ndarray, "m 229"],
        locations: Float32[ndarray, "m 99"],
        time: int,
        *,
        shot: bool,
    ) -> None:
        """Append one observation to each of the given rows and forget their oldest.

        Args:
            rows: which tracks, ascending.
            poses: seen of each.
            locations: seen of each.
            time: frame index.
            shot: a new shot begins here, so that older places say nothing: all of them become this one.
        """
        if len(rows) == 0:
            return
        chosen = (
            slice(None) if len(rows) == len(self) else rows
        )  # a slice moves rows without copying them twice
        for array, new in ((self.poses, poses), (self.locations, locations), (self.times, time)):
            array[chosen, :-1] = array[chosen, 1:]
            array[chosen, -1] = new
        if shot:
            self.locations[chosen] = locations[:, None]

    def add(self, poses: Float32[ndarray, "m 229"], locations: Float32[ndarray, "m 99"], time: int) -> None:
        """Append rows for new tracks: the first observation fills the history and is expected again."""
        shape = (len(poses), self._span)
        self.poses = np.concatenate([self.poses, np.broadcast_to(poses[:, None], (*shape, POSE_SIZE))])
        self.locations = np.concatenate(
            [self.locations, np.broadcast_to(locations[:, None], (*shape, LOCATION_SIZE))]
        )
        self.times = np.concatenate([self.times, np.full(shape, time)])
        self.expected_poses = np.concatenate([self.expected_poses, poses])
        self.expected_locations = np.concatenate([self.expected_locations, locations])

    def keep(self, alive: Bool[ndarray, " n"]) -> None:
        """Drop the rows that are not alive; the others keep their order."""
        self.poses = self.poses[alive]
        self.locations = self.locations[alive]
        self.times = self.times[alive]
        self.expected_poses = self.expected_poses[alive]
        self.expected_locations = self.expected_locations[alive]
