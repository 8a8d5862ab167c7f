"""Identities from an engine that tracks people itself. Knows nothing of how it does so, or of pixels."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from handler.job import TrackingOptions
from handler.people.life import Track
from handler.people.timeline import Timeline
from handler.records import PeopleInFrame, Prediction, TrackedFrame
from handler.vectors import without_texture
from model_cache.interfaces import FrameTracker, TrackerOptions, TrackState


def tracker_options(options: TrackingOptions) -> TrackerOptions:
    """What a job's options mean for an engine's own tracker."""
    return TrackerOptions(
        n_init=options.n_init,
        max_age_track=options.max_age_track,
        hungarian_th=options.hungarian_th,
        alpha=options.alpha,
        track_history=options.track_history,
        predict=options.predict,
    )


def follow(people: Iterator[PeopleInFrame], tracker: FrameTracker, n_init: int) -> Iterator[TrackedFrame]:
    """The records that `track` gives, with the identities of an engine's own tracker.

    One frame out per frame in, in order, `n_init` - 1 frames behind.

    Args:
        people: frames in order, `frame_index` growing by one.
        tracker: new, of this job alone.
        n_init: measurements that confirm a track; with 1 the first one does, whatever the engine says.

    Memory: `n_init` - 1 frames of people and the newest measurement of each live track.
    """
    timeline = Timeline(n_init)
    tracks: dict[int, Track] = {}
    for frame in people:
        textures = [person.texture for person in frame.people]
        states = tracker.update(textures, frame.frame_index, shot=frame.shot)
        del textures
        tracks = {s.track_id: _after(tracks.get(s.track_id), s, frame, n_init) for s in states}
        yield from timeline.add(frame, list(tracks.values()))
    yield from timeline.flush()


def _after(track: Track | None, state: TrackState, frame: PeopleInFrame, n_init: int) -> Track:
    """A track as the engine sees it after a frame."""
    person = None if state.detection is None else without_texture(frame.people[state.detection])
    if track is None:
        if person is None:
            raise ValueError("a track must begin with a measurement")
        return Track(track_id=state.track_id, person=person, texture=None, confirmed=n_init == 1)
    track.next_frame()
    if person is not None:
        track.matched(person, n_init)
        track.confirmed = state.confirmed or n_init == 1
    else:
        track.expected = _prediction(state, track.person.location_vector)
    return track


def _prediction(state: TrackState, last_location: Float32[ndarray, "99"]) -> Prediction:
    if state.expected_pose is None or state.expected_location is None:
        raise ValueError("a track that was not seen must say what was expected of it")
    usable = np.isfinite(state.expected_location).all()
    return Prediction(
        pose_vector=state.expected_pose,
        location_vector=state.expected_location if usable else last_location,
    )
