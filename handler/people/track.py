"""Measured people become identities, by our own tracker or by an engine's.

A track is confirmed by its `n_init`-th measurement in a row; the ones before it belong to the frames before.
PHALP adds them to its dictionary of all frames; here those frames have not left yet.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from handler.job import TrackingOptions
from handler.people.tracker import Tracker
from handler.records import (
    FrameInfo,
    PeopleInFrame,
    PlacedPeople,
    TrackedFrame,
    TrackedPeople,
    location_vectors,
    pose_vectors,
)
from model_cache.interfaces import FrameTracker, PosePredictor, TextureModel, TrackerOptions, TrackState


def track(
    people: Iterator[PeopleInFrame],
    texture: TextureModel,
    pose_predictor: PosePredictor,
    options: TrackingOptions,
) -> Iterator[TrackedFrame]:
    """Give every measured person an identity by PHALP's tracker; one frame out per frame in, in order.

    Runs `n_init` - 1 frames behind, so that the first measurements of a confirmed track land in their own
    frames. A lost track is handed on with what was expected of it, until it is older than `max_age_track`.
    The frames must come in order, `frame_index` growing by one.

    Memory: that of the `Tracker`, and `n_init` - 1 frames of people without textures.
    """
    return _delayed(people, Tracker(texture, pose_predictor, options).update, options.n_init)


def follow(people: Iterator[PeopleInFrame], tracker: FrameTracker, n_init: int) -> Iterator[TrackedFrame]:
    """The frames that `track` gives, with the identities of an engine's own tracker, new for this job.

    With an `n_init` of 1 the first measurement confirms a track, whatever the engine says.
    """

    def update(frame: PeopleInFrame) -> list[TrackState]:
        return tracker.update(frame.people.textures or (), frame.info.frame_index, shot=frame.info.shot)

    return _delayed(people, update, n_init)


def tracker_options(options: TrackingOptions) -> TrackerOptions:
    """What a job's options mean for an engine's own tracker: the same, under the same names."""
    return TrackerOptions(**{field.name: getattr(options, field.name) for field in fields(TrackerOptions)})


def _delayed(
    people: Iterator[PeopleInFrame], update: Callable[[PeopleInFrame], Sequence[TrackState]], n_init: int
) -> Iterator[TrackedFrame]:
    delay = FrameDelay(n_init)
    for frame in people:
        yield from delay.add(frame, update(frame))
    yield from delay.flush()


@dataclass(slots=True)
class _Followed:
    """A live track."""

    row: int  # of its newest measurement, in the frame of that measurement
    unreported: list[int] = field(default_factory=list)  # rows before the confirmation, a frame each
    frames_since_seen: int = 0
    last: PlacedPeople | None = None  # the newest measurement, if the track is lost


@dataclass(slots=True)
class _Held:
    """A frame on its way out."""

    info: FrameInfo
    num_detected: int
    candidates: PlacedPeople  # its people, then those who are lost
    poses: Float32[ndarray, "c 229"]  # of the candidates, measured or expected
    locations: Float32[ndarray, "c 99"]
    reported: list[tuple[int, int, int]] = field(default_factory=list)  # row, identity, frames since seen

    def release(self) -> TrackedFrame:
        """The frame as it leaves."""
        people, poses, locations = self.candidates, self.poses, self.locations
        rows, track_ids, frames_since_seen = np.array(self.reported, np.int64).reshape(-1, 3).T
        if rows.tolist() != list(range(len(people))):  # most often everybody is reported, in order
            people, poses, locations = people.take(rows), poses[rows], locations[rows]
        tracked = TrackedPeople.extend(
            people, track_ids=track_ids, frames_since_seen=frames_since_seen, poses=poses, locations=locations
        )
        return TrackedFrame(info=self.info, people=tracked, num_detected=self.num_detected)


class FrameDelay:
    """Holds frames back until no earlier measurement can be added to them: `n_init` confirm a track.

    Memory: `n_init` - 1 frames of people and the newest measurement of each lost track, no textures.
    """

    def __init__(self, n_init: int) -> None:
        self._n_init = n_init
        self._held: deque[_Held] = deque()
        self._tracks: dict[int, _Followed] = {}
        self._before: PlacedPeople | None = None  # the people of the frame before

    def add(self, frame: PeopleInFrame, states: Sequence[TrackState]) -> Iterator[TrackedFrame]:
        """Take a frame and the live tracks after it; gives the frames that are complete by now.

        People come in PHALP's order: first the confirmed tracks of the frame itself by age, then, as they are
        confirmed, the ones that were tentative in it.
        """
        people = replace(frame.people, textures=None)
        self._tracks = {state.track_id: self._followed(state) for state in states}
        lost = [state for state in states if state.detection is None]
        held = self._hold(frame.info, people, lost)
        next_lost = iter(range(len(people), len(held.candidates)))
        for state in states:
            followed = self._tracks[state.track_id]
            row = next(next_lost) if state.detection is None else state.detection
            if not (state.confirmed or self._n_init == 1):
                followed.unreported.append(row)
                if state.detection is None:
                    followed.unreported.clear()  # only measurements in a row count
                continue
            held.reported.append((row, state.track_id, followed.frames_since_seen))
            for earlier, row in zip(reversed(self._held), reversed(followed.unreported), strict=False):
                earlier.reported.append((row, state.track_id, 0))
            followed.unreported.clear()
        self._held.append(held)
        self._before = people
        while len(self._held) >= self._n_init:
            yield self._held.popleft().release()

    def flush(self) -> Iterator[TrackedFrame]:
        """The frames still held when the video ends."""
        while self._held:
            yield self._held.popleft().release()

    def _followed(self, state: TrackState) -> _Followed:
        """A track as it is after a frame."""
        followed = self._tracks.get(state.track_id)
        if state.detection is not None:
            followed = followed or _Followed(state.detection)
            followed.row, followed.frames_since_seen, followed.last = state.detection, 0, None
        elif followed is None or self._before is None:
            raise ValueError("a track must begin with a measurement")
        else:
            followed.last = followed.last or self._before.take([followed.row])
            followed.frames_since_seen += 1
        return followed

    def _hold(self, info: FrameInfo, people: PlacedPeople, lost: Sequence[TrackState]) -> _Held:
        last = [self._tracks[state.track_id].last for state in lost]
        candidates = PlacedPeople.concat([people, *filter(None, last)]) if lost else people
        poses, locations = pose_vectors(candidates), location_vectors(candidates)
        for row, state in enumerate(lost, len(people)):
            if state.expected_pose is None or state.expected_location is None:
                raise ValueError("a track that was not seen must say what was expected of it")
            poses[row] = state.expected_pose
            if np.isfinite(state.expected_location).all():  # else the last place seen stands in
                locations[row] = state.expected_location
        return _Held(info, len(people), candidates, poses, locations)
