"""Presentation times that always grow, from timestamps that may be missing or jump."""

from fractions import Fraction

SMALL_STEPS = 3  # back by so few frames, a frame is out of place
LARGE_SECONDS = 10.0  # back or ahead by more, time begins anew
USUAL_FPS = 30.0  # where the header names no rate


class TimestampRepair:
    """Times of one stream's frames, in the order in which the decoder hands them out.

    Good timestamps pass unchanged. A missing one becomes one step after the last. One that lies before the
    last is either a frame out of place (from damage), which is put right behind the last one, or the start of
    another recording (joined transport streams), whose times are shifted so that it follows on. Two frames
    in a row that lie behind mean another recording, if the container can hold such; so the first of them is
    placed half a step early. A leap ahead by more than `LARGE_SECONDS` means one too, if `may_leap`.

    Attributes:
        num_repaired: timestamps that were replaced.

    Args:
        time_base: seconds per tick.
        fps: the header's frame rate, or None.
        origin: tick that is time zero; default the first frame's.
        may_restart: another recording may follow in the middle, as in transport streams; not in an MP4.
        may_leap: its time may also be far ahead.
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
        self._suspect: float | None = None  # time of a frame that lay far behind, before any shift for it
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
            ticks, seconds = pts, self._growing(self._seconds(pts - self._origin))
        self._last = seconds
        return ticks, seconds

    def _seconds(self, ticks: int) -> float:
        # Integers first: exact up to the one division.
        return ticks * self._time_base.numerator / self._time_base.denominator + self._shift

    def _growing(self, seconds: float) -> float:
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
            # The suspect was placed half a step after the frame before it; it should have been a whole one.
            self._shift += self._last + self._step / 2 - suspect
            return self._last + self._step / 2 + (seconds - suspect)
        self._suspect = seconds
        return self._last + self._step / 2
