"""Keep one chosen person of a stream of frames. Knows nothing of files to be uploaded or of JSON.

Who is meant is known only at the chosen time, so earlier frames wait on disk, not in memory.
"""

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from handler.job import ChosenPerson
from handler.records import TrackedFrame, TrackedPerson, Warn

PATIENCE_SECONDS = 1.0  # a chosen person may be hidden at the very moment


class OnePerson:
    """A filter that keeps the identity at a point, or the one that overlaps a box most, at a time.

    The first frame at or after that time in which a measured person fits decides; after `PATIENCE_SECONDS`
    nobody is kept and a warning says so.

    Args:
        chosen: whom to keep.
        waiting: a file for the frames before the decision; removed afterwards.

    Attributes:
        track_id: the identity, once it is known.
    """

    def __init__(self, chosen: ChosenPerson, *, waiting: Path) -> None:
        self._chosen = chosen
        self._waiting = waiting
        self._has_looked = False
        self.track_id: int | None = None

    def keep(self, frames: Iterable[TrackedFrame]) -> Iterator[TrackedFrame]:
        """The same frames with the chosen person alone. Memory: one frame."""
        stream = iter(frames)
        num_waiting = 0
        try:
            with self._waiting.open("wb") as file:
                for frame in stream:
                    pickle.dump(frame, file)
                    num_waiting += 1
                    if self._decided(frame):
                        break
            with self._waiting.open("rb") as file:
                for _ in range(num_waiting):
                    yield self._only(pickle.load(file))  # noqa: S301 - written above, in the job's own folder
        finally:
            self._waiting.unlink(missing_ok=True)
        for frame in stream:
            yield self._only(frame)

    def warnings(self) -> tuple[Warn, ...]:
        """PERSON_NOT_FOUND if nobody was there; ask after the last frame."""
        if self.track_id is not None:
            return ()
        message = f"nobody was at the chosen place within {PATIENCE_SECONDS:g} s of the chosen time"
        if not self._has_looked:
            message = f"the last frame comes before the chosen time, {self._chosen.time_s:g} s"
        return (Warn(code="PERSON_NOT_FOUND", message=message),)

    def _decided(self, frame: TrackedFrame) -> bool:
        late = frame.pts_seconds - self._chosen.time_s
        if late < 0:
            return False
        self._has_looked = True
        measured = [tracked for tracked in frame.people if tracked.state == "tracked"]
        best = max(measured, key=self._fit, default=None)
        if best is not None and self._fit(best) > 0:
            self.track_id = best.track_id
        return self.track_id is not None or late > PATIENCE_SECONDS

    def _fit(self, tracked: TrackedPerson) -> float:
        """How well a person fits, 0 to 1; 0 not at all."""
        left, top, right, bottom = (float(edge) for edge in tracked.person.bbox_xyxy)
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
        people = tuple(tracked for tracked in frame.people if tracked.track_id == self.track_id)
        return replace(frame, people=people, num_detected=sum(t.state == "tracked" for t in people))


def without_predicted(frames: Iterable[TrackedFrame]) -> Iterator[TrackedFrame]:
    """The same frames with measured people only."""
    for frame in frames:
        people = tuple(tracked for tracked in frame.people if tracked.state == "tracked")
        yield frame if len(people) == len(frame.people) else replace(frame, people=people)
