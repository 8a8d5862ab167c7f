"""PHALP's tracker: who of a frame's measured people is who."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy import ndarray

from handler.job import TrackingOptions
from handler.people.association import Association, assign, cost_factors, pair_costs
from handler.people.motion import predict_locations
from handler.records import LOCATION_SIZE, POSE_SIZE, PeopleInFrame, location_vectors, pose_vectors
from model_cache.interfaces import PosePredictor, Texture, TextureModel, TrackState


@dataclass(slots=True, kw_only=True)
class Track:
    """One identity that may still be seen again."""

    track_id: int  # from 1; tentative tracks that die use numbers up, as in PHALP
    texture: Texture  # mixed from all measurements; the only one kept
    confirmed: bool  # seen often enough to be reported
    hits: int = 1  # measurements
    age: int = 1  # frames since the first measurement, counted from 1
    time_since_update: int = 0  # frames since the newest measurement


class Histories:
    """Vectors of the last t observations of each live track, oldest first, and what is expected of it next.

    One row per track, since prediction and cost are then a few array operations per frame, however many
    people there are. Memory: t x 1.3 KB per track.
    """

    poses: Float32[ndarray, "n t 229"]
    locations: Float32[ndarray, "n t 99"]
    times: Int64[ndarray, "n t"]  # frame indices
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

    def rows(self, rows: Int64[ndarray, " m"]) -> slice | Int64[ndarray, " m"]:
        """The same rows (ascending), as a slice if they are all: that needs no copies."""
        return slice(None) if len(rows) == len(self) else rows

    def observe(
        self,
        rows: Int64[ndarray, " m"],
        poses: Float32[ndarray, "m 229"],
        locations: Float32[ndarray, "m 99"],
        time: int,
        *,
        shot: bool,
    ) -> None:
        """Append one observation to each of the given rows (ascending) and forget their oldest.

        Where a new shot begins, older places say nothing: all of them become this one.
        """
        if len(rows) == 0:
            return
        chosen = self.rows(rows)
        for array, new in ((self.poses, poses), (self.locations, locations), (self.times, time)):
            array[chosen, :-1] = array[chosen, 1:]
            array[chosen, -1] = new
        if shot:
            self.locations[chosen] = locations[:, None]

    def add(self, poses: Float32[ndarray, "m 229"], locations: Float32[ndarray, "m 99"], time: int) -> None:
        """Append rows for new tracks: the first observation fills the history and is expected again."""
        span = self._span
        self.poses = np.concatenate([self.poses, np.repeat(poses[:, None], span, axis=1)])
        self.locations = np.concatenate([self.locations, np.repeat(locations[:, None], span, axis=1)])
        self.times = np.concatenate([self.times, np.full((len(poses), span), time)])
        self.expected_poses = np.concatenate([self.expected_poses, poses])
        self.expected_locations = np.concatenate([self.expected_locations, locations])

    def keep(self, alive: Bool[ndarray, " n"]) -> None:
        """Drop the rows that are not alive; the others keep their order."""
        self.poses = self.poses[alive]
        self.locations = self.locations[alive]
        self.times = self.times[alive]
        self.expected_poses = self.expected_poses[alive]
        self.expected_locations = self.expected_locations[alive]


class Tracker:
    """The live tracks of one job; its identities start at 1, and nothing is kept but the live tracks.

    Memory: one texture and `track_history` vectors per live track.

    Attributes:
        tracks: live tracks, oldest first.
        histories: their observations and expectations, row by row.
        last: who was matched in the newest frame.
    """

    def __init__(
        self, texture: TextureModel, pose_predictor: PosePredictor, options: TrackingOptions
    ) -> None:
        self.tracks: list[Track] = []
        self.histories = Histories(options.track_history)
        self.last: Association | None = None
        self._texture = texture
        self._pose_predictor = pose_predictor
        self._options = options
        self._ids = count(1)

    def update(self, frame: PeopleInFrame) -> list[TrackState]:
        """Take the people of the next frame, with their textures; the live tracks after it, oldest first.

        In PHALP's order: match, forget, predict, begin new tracks.
        """
        people = frame.people
        if people.textures is None:
            raise ValueError("people must come with their textures")
        scores = people.scores.tolist()
        poses, locations = pose_vectors(people), location_vectors(people)
        self.last = association = self._associate(people.textures, poses, locations)
        for track in self.tracks:
            track.age += 1
            track.time_since_update += 1
        rows, columns = association.matches.T
        self.histories.observe(
            rows, poses[columns], locations[columns], frame.info.frame_index, shot=frame.info.shot
        )
        for row, column in association.matches.tolist():
            self._match(self.tracks[row], people.textures[column], scores[column])
        states = self._states(association)
        missed = np.array([track.time_since_update for track in self.tracks], int)
        confirmed = np.array([track.confirmed for track in self.tracks], bool)
        alive = (missed == 0) | (confirmed & (missed <= self._options.max_age_track))
        if self._options.upstream_quirks:
            # The official predictor reads a whole batch at the time slot of its first track, so here it
            # matters who is in the batch: first the matched, then the unmatched, the dying ones included.
            self._predict(rows)
            self._predict(association.unmatched_tracks)
            self._forget(alive)
        else:
            self._forget(alive)
            self._predict(np.arange(len(self.tracks)))
        states = [state for state, lives in zip(states, alive, strict=True) if lives]
        return states + self._begin(
            association.unmatched_detections, people.textures, poses, locations, frame.info.frame_index
        )

    def _associate(
        self,
        textures: Sequence[Texture],
        poses: Float32[ndarray, "d 229"],
        locations: Float32[ndarray, "d 99"],
    ) -> Association:
        of_tracks = [track.texture for track in self.tracks]
        pose_factor, place_factor = cost_factors(
            self.histories.expected_poses, self.histories.expected_locations, poses, locations
        )
        cost = pair_costs(
            pose_factor,
            place_factor,
            lambda pairs: self._texture.distance(of_tracks, textures, pairs),
            self._options.hungarian_th,
            upstream_quirks=self._options.upstream_quirks,
        )
        return assign(cost, self._options.hungarian_th)

    def _match(self, track: Track, texture: Texture, score: float) -> None:
        """A track was measured; the `n_init`-th time confirms it."""
        track.texture = self._texture.mix(track.texture, texture, score, alpha=self._options.alpha)
        track.hits += 1
        track.time_since_update = 0
        track.confirmed = track.confirmed or track.hits >= self._options.n_init

    def _states(self, association: Association) -> list[TrackState]:
        """The tracks after matching, before any of them is forgotten or expected anew."""
        columns = dict(association.matches.tolist())
        return [
            TrackState(
                track_id=track.track_id,
                detection=columns.get(row),
                confirmed=track.confirmed,
                expected_pose=None if row in columns else self.histories.expected_poses[row].copy(),
                expected_location=None if row in columns else self.histories.expected_locations[row].copy(),
            )
            for row, track in enumerate(self.tracks)
        ]

    def _forget(self, alive: Bool[ndarray, " t"]) -> None:
        if not alive.all():
            self.tracks = [track for track, lives in zip(self.tracks, alive, strict=True) if lives]
            self.histories.keep(alive)

    def _predict(self, rows: Int64[ndarray, " m"]) -> None:
        if len(rows) == 0:
            return
        histories, chosen = self.histories, self.histories.rows(rows)
        times, poses, locations = (
            column[chosen] for column in (histories.times, histories.poses, histories.locations)
        )
        time_since_update = np.array([self.tracks[row].time_since_update for row in rows.tolist()])
        expected = locations[:, -1]
        if "L" in self._options.predict:
            expected = predict_locations(locations, times, time_since_update)
            if not self._options.upstream_quirks:
                # No line fits a depth that is not positive; expect such a body where it was.
                lineless = ~np.isfinite(expected).all(axis=1)
                expected[lineless] = locations[lineless, -1]
        histories.expected_locations[chosen] = expected
        expected = poses[:, -1]
        if "P" in self._options.predict:
            expected = self._pose_predictor.predict_next(
                poses, times, time_since_update, upstream_quirks=self._options.upstream_quirks
            )
        histories.expected_poses[chosen] = expected

    def _begin(
        self,
        columns: Int64[ndarray, " v"],
        textures: Sequence[Texture],
        poses: Float32[ndarray, "d 229"],
        locations: Float32[ndarray, "d 99"],
        time: int,
    ) -> list[TrackState]:
        if len(columns):
            self.histories.add(poses[columns], locations[columns], time)
        states = []
        for column in columns.tolist():
            track_id, confirmed = next(self._ids), self._options.n_init == 1
            texture = self._texture.copy(textures[column])
            self.tracks.append(Track(track_id=track_id, texture=texture, confirmed=confirmed))
            states.append(TrackState(track_id=track_id, detection=column, confirmed=confirmed))
        return states
