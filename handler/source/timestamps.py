"""Presentation times that only grow, from timestamps that may be missing or jump. Pure."""

from fractions import Fraction

SMALL_STEPS = 3  # a frame or two out of place is a slip
LARGE_SECONDS = 10.0  # no slip goes back so far, and no pause lasts as long
USUAL_FPS = 30.0  # where the header names no rate


class Timeline:
    """Times of one stream's frames, in the order in which the decoder hands them out.

    Good timestamps pass unchanged. A missing one becomes "one step later". One that lies before the last
    is either a frame out of place (damage does that), which goes right behind the last one, or the
    beginning of a new stretch (spliced streams), which is shifted so that it follows on. Two frames in a
    row that lie behind make a new stretch, if the container can have such; so the first frame of it is
    placed half a step early. A leap ahead begins one too, where it can be no pause.

    Attributes:
        num_repaired: timestamps that were not taken as they were.

    Args:
        time_base: seconds per tick.
        fps: the header's frame rate, or None.
        origin: tick that is time zero; default the first frame's.
        may_restart: time may begin anew in the middle, as in transport streams; an MP4's cannot.
        may_leap: time may also leap ahead there.
    """

    def __init__(
        self,
        time_base: Fraction,
        fps: float | None,
        origin: int | None = None,
        *,
        may_restart: bool = True,
        may_leap: bool = False,
    ) -> None:
        self._time_base = time_base
        self._step = 1.0 / (fps or USUAL_FPS)
        self._origin = origin
        self._may_restart = may_restart
        self._may_leap = may_leap
        self._shift = 0.0
        self._last: float | None = None
        self._suspect: float | None = None  # unshifted-by-restart time of a frame that lay far behind
        self.num_repaired = 0

    def place(self, pts: int | None) -> tuple[int, float]:
        """The frame's (tick, seconds since the origin); seconds grow from call to call."""
        if pts is None:
            self.num_repaired += 1
            seconds = 0.0 if self._last is None else self._last + self._step
            ticks = round((seconds - self._shift) / float(self._time_base)) + (self._origin or 0)
        else:
            if self._origin is None:
                self._origin = pts
            ticks, seconds = pts, self._monotone(self._seconds(pts - self._origin))
        self._last = seconds
        return ticks, seconds

    def _seconds(self, ticks: int) -> float:
        # Integers first: exact up to the one division.
        return ticks * self._time_base.numerator / self._time_base.denominator + self._shift

    def _monotone(self, seconds: float) -> float:
        suspect, self._suspect = self._suspect, None
        if self._last is None:
            return seconds
        if seconds > self._last:
            if not self._may_leap or seconds <= self._last + LARGE_SECONDS:
                return seconds
            self.num_repaired += 1
            self._shift -= seconds - self._last - self._step
            return self._last + self._step
        self.num_repaired += 1
        back = self._last - seconds
        if back <= SMALL_STEPS * self._step or not (self._may_restart or back > LARGE_SECONDS):
            return self._last + min(float(self._time_base), self._step / 100)
        if suspect is not None and seconds > suspect:
            # The suspect was placed half a step after its forerunner: it should have been a whole one.
            self._shift += self._last + self._step / 2 - suspect
            return self._last + self._step / 2 + (seconds - suspect)
        self._suspect = seconds
        return self._last + self._step / 2
