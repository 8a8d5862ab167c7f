"""Chooses which tracked people are written, and warns if there are none."""

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from handler.job import ChosenPerson
from handler.records import TrackedFrame, Warn

PATIENCE_SECONDS = 1.0  # a chosen person may be hidden at the very moment


class OnePerson:
    """A filter that keeps the identity at a point, or the one that overlaps a box most, at a time.

    The first frame at or after that time in which a measured person fits decides; after `PATIENCE_SECONDS`
    nobody is kept and a warning says so. Earlier frames wait in the file `waiting`, not in
    memory; it is removed afterwards.
    """

    def __init__(self, chosen: ChosenPerson, *, waiting: Path) -> None:
        self._chosen = chosen
        self._waiting = waiting
        self._has_looked = False
        self._track_id: int | None = None

    def keep(self, frames: Iterable[TrackedFrame]) -> Iterator[TrackedFrame]:
        """The same frames with the chosen person alone. Memory: one frame."""
        stream = iter(frames)
        num_waiting = 0
        try:
            with self._waiting.open("w+b") as file:
                for frame in stream:
                    pickle.dump(frame, file)
                    num_waiting += 1
                    if self._decided(frame):
                        break
                file.seek(0)
                for _ in range(num_waiting):
                    yield self._only(pickle.load(file))  # noqa: S301 - written above, in the job's own folder
        finally:
            self._waiting.unlink(missing_ok=True)
        yield from map(self._only, stream)

    def warnings(self) -> tuple[Warn, ...]:
        """PERSON_NOT_FOUND if nobody was there; ask after the last frame."""
        if self._track_id is not None:
            return ()
        message = f"nobody was at the chosen place within {PATIENCE_SECONDS:g} s of the chosen time"
        if not self._has_looked:
            message = f"the last frame comes before the chosen time, {self._chosen.time_s:g} s"
        return (Warn(code="PERSON_NOT_FOUND", message=message),)

    def _decided(self, frame: TrackedFrame) -> bool:
        late = frame.info.pts_seconds - self._chosen.time_s
        if late < 0:
            return False
        self._has_looked = True
        people = frame.people.take(np.flatnonzero(frame.people.measured))
        fits = [self._fit(*box) for box in people.bbox_xyxy.tolist()]
        if fits and max(fits) > 0:
            self._track_id = int(people.track_ids[np.argmax(fits)])
        return self._track_id is not None or late > PATIENCE_SECONDS

    def _fit(self, left: float, top: float, right: float, bottom: float) -> float:
        """How well a box fits the choice, from 0 (not at all) to 1."""
        if self._chosen.point is not None:
            x, y = self._chosen.point
            if not (left <= x <= right and top <= y <= bottom):
                return 0.0
            # Of people behind one another the one whose middle is nearest, in units of the box.
            across = abs(2 * x - left - right) / max(right - left, 1e-9)
            along = abs(2 * y - top - bottom) / max(bottom - top, 1e-9)
            return 1.0 - (across + along) / 2 + 1e-9
        assert self._chosen.box is not None
        x1, y1, x2, y2 = self._chosen.box
        shared = max(min(x2, right) - max(x1, left), 0.0) * max(min(y2, bottom) - max(y1, top), 0.0)
        union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - shared
        return shared / union if union > 0 else 0.0

    def _only(self, frame: TrackedFrame) -> TrackedFrame:
        kept = with_people(frame, frame.people.track_ids == self._track_id)
        return replace(kept, num_detected=int(kept.people.measured.sum()))


class Presence:
    """Notes whether anybody is in the video at all, before any of its people are left out."""

    def __init__(self, n_init: int) -> None:
        self._n_init = n_init
        self._num_detected = 0
        self._is_empty = True

    def note(self, frames: Iterable[TrackedFrame]) -> Iterator[TrackedFrame]:
        """The same frames, counted on their way."""
        for frame in frames:
            self._num_detected += frame.num_detected
            self._is_empty = self._is_empty and not len(frame.people)
            yield frame

    def warnings(self) -> tuple[Warn, ...]:
        """NO_PEOPLE if there is no identity in the whole video; ask after the last frame."""
        if not self._is_empty:
            return ()
        message = "nobody was found in the video"
        if self._num_detected:
            message = (
                f"nobody was in sight for {self._n_init} frames in a row (phalp.n_init); "
                f"shorter sightings: {self._num_detected}"
            )
        return (Warn(code="NO_PEOPLE", message=message),)


def with_people(frame: TrackedFrame, kept: Bool[ndarray, " n"]) -> TrackedFrame:
    """The same frame with these of its people only."""
    return frame if kept.all() else replace(frame, people=frame.people.take(np.flatnonzero(kept)))
