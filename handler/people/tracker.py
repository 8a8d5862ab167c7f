"""PHALP's tracker over a stream of measured people. Knows nothing of pixels, files or requests.

State lives in the job: identities start at 1 in each, and nothing is kept but the live tracks.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from handler.job import TrackingOptions
from handler.people.association import Association, assign, cost_factors, pair_costs
from handler.people.history import Histories
from handler.people.life import Track
from handler.people.motion import predict_locations
from handler.people.timeline import Timeline
from handler.records import PeopleInFrame, Person, Prediction, TrackedFrame
from handler.vectors import location_vectors, pose_vectors, without_texture
from model_cache.interfaces import PosePredictor, Texture, TextureModel


def track(
    people: Iterator[PeopleInFrame],
    texture: TextureModel,
    pose_predictor: PosePredictor,
    options: TrackingOptions,
) -> Iterator[TrackedFrame]:
    """Give every measured person an identity; one frame out per frame in, in order.

    Runs `n_init` - 1 frames behind, so that the first measurements of a confirmed track land in their own
    frames. A lost track is handed on with what was expected of it, until it is older than `max_age_track`.

    Args:
        people: frames in order, `frame_index` growing by one.
        texture: compares and mixes textures.
        pose_predictor: predicts poses.
        options: PHALP's names and defaults.

    Memory: the live tracks (each one texture and `track_history` vectors) and `n_init` - 1 frames of people.
    """
    tracker = Tracker(texture, pose_predictor, options)
    timeline = Timeline(options.n_init)
    for frame in people:
        tracker.update(frame)
        yield from timeline.add(frame, tracker.tracks)
    yield from timeline.flush()


class Tracker:
    """The live tracks of one job.

    Attributes:
        tracks: live tracks, oldest first.
        histories: their observations and expectations, row by row.
    """

    def __init__(
        self, texture: TextureModel, pose_predictor: PosePredictor, options: TrackingOptions
    ) -> None:
        self.tracks: list[Track] = []
        self.histories = Histories(options.track_history)
        self._texture = texture
        self._pose_predictor = pose_predictor
        self._options = options
        self._next_id = 1

    def update(self, frame: PeopleInFrame) -> Association:
        """Take the people of the next frame: match, forget, predict, begin new tracks, in PHALP's order."""
        poses, locations = pose_vectors(frame.people), location_vectors(frame.people)
        for track in self.tracks:
            track.next_frame()
        association = self._associate(frame.people, poses, locations)
        self._observe(association.matches, frame, poses, locations)
        alive = self._miss(association.unmatched_tracks)
        if self._options.upstream_quirks:
            # The official predictor reads a whole batch at the time slot of its first track, so here it
            # matters who is in the batch: first the matched, then the unmatched, the dying ones included.
            self._predict(association.matches[:, 0])
            self._predict(association.unmatched_tracks)
            self._forget(alive)
        else:
            self._forget(alive)
            self._predict(np.arange(len(self.tracks)))
        self._begin(association.unmatched_detections, frame, poses, locations)
        return association

    def _associate(
        self,
        people: Sequence[Person],
        poses: Float32[ndarray, "d 229"],
        locations: Float32[ndarray, "d 99"],
    ) -> Association:
        of_tracks = [track.texture for track in self.tracks]
        of_people = [_texture_of(person) for person in people]
        pose_factor, place_factor = cost_factors(
            self.histories.expected_poses, self.histories.expected_locations, poses, locations
        )
        cost = pair_costs(
            pose_factor,
            place_factor,
            lambda pairs: self._texture.distance(of_tracks, of_people, pairs),
            self._options.hungarian_th,
            upstream_quirks=self._options.upstream_quirks,
        )
        return assign(cost, self._options.hungarian_th)

    def _observe(
        self,
        matches: Int64[ndarray, "m 2"],
        frame: PeopleInFrame,
        poses: Float32[ndarray, "d 229"],
        locations: Float32[ndarray, "d 99"],
    ) -> None:
        rows, columns = matches.T
        self.histories.observe(rows, poses[columns], locations[columns], frame.frame_index, shot=frame.shot)
        for row, column in matches.tolist():
            track, person = self.tracks[row], frame.people[column]
            track.texture = self._texture.mix(
                track.texture, _texture_of(person), person.score, alpha=self._options.alpha
            )
            track.matched(without_texture(person), self._options.n_init)

    def _miss(self, rows: Int64[ndarray, " u"]) -> list[bool]:
        alive = [True] * len(self.tracks)
        for row in rows.tolist():
            location = self.histories.expected_locations[row]
            if not np.isfinite(location).all():  # only with the quirks
                location = self.histories.locations[row, -1]
            expected = Prediction(
                pose_vector=self.histories.expected_poses[row].copy(), location_vector=location.copy()
            )
            alive[row] = self.tracks[row].missed(expected, self._options.max_age_track)
        return alive

    def _forget(self, alive: list[bool]) -> None:
        if not all(alive):
            self.tracks = [track for track, lives in zip(self.tracks, alive, strict=True) if lives]
            self.histories.keep(np.array(alive, bool))

    def _predict(self, rows: Int64[ndarray, " m"]) -> None:
        if len(rows) == 0:
            return
        histories = self.histories
        chosen = slice(None) if len(rows) == len(self.tracks) else rows
        times, poses, locations = (
            histories.times[chosen],
            histories.poses[chosen],
            histories.locations[chosen],
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
        frame: PeopleInFrame,
        poses: Float32[ndarray, "d 229"],
        locations: Float32[ndarray, "d 99"],
    ) -> None:
        if len(columns) == 0:
            return
        self.histories.add(poses[columns], locations[columns], frame.frame_index)
        for column in columns.tolist():
            person = frame.people[column]
            self.tracks.append(
                Track(
                    track_id=self._next_id,
                    person=without_texture(person),
                    texture=self._texture.copy(_texture_of(person)),
                    confirmed=self._options.n_init == 1,
                )
            )
            self._next_id += 1


def _texture_of(person: Person) -> Texture:
    if person.texture is None:
        raise ValueError("people must come with their textures")
    return person.texture
