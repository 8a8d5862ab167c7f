"""Presentation times that always grow, from timestamps that may be missing or jump."""

from dataclasses import KW_ONLY, dataclass
from fractions import Fraction

SMALL_STEPS = 3  # back by so few frames, a frame is out of place
LARGE_SECONDS = 10.0  # back or ahead by more, time begins anew
USUAL_FPS = 30.0  # where the header names no rate


@dataclass(slots=True)
class TimestampRepair:
    """Times of one stream's frames, in the order in which the decoder hands them out.

    Good timestamps pass unchanged. A missing one becomes one step after the last. One that lies before the
    last is either a frame out of place (from damage), which is put right behind the last one, or the start of
    another recording (joined transport streams), whose times are shifted so that it follows on. Two frames
    in a row that lie behind mean another recording, if the container can hold such; so the first of them is
    placed half a step early. A leap ahead by more than `LARGE_SECONDS` means one too, if `may_leap`.
    """

    time_base: Fraction  # seconds per tick
    fps: float | None  # of the header
    origin: int | None = None  # tick that is time zero; default the first frame's
    _: KW_ONLY
    may_restart: bool = True  # another recording may follow in the middle, as in transport streams
    may_leap: bool = False  # its time may also be far ahead
    num_repaired: int = 0  # timestamps that were replaced
    _shift: float = 0.0
    _last: float | None = None
    _suspect: float | None = None  # time of a frame that lay far behind, before any shift for it

    @property
    def _step(self) -> float:
        return 1.0 / (self.fps or USUAL_FPS)

    def place(self, pts: int | None) -> tuple[int, float]:
        """The frame's (tick, seconds since the origin); seconds grow from call to call."""
        if pts is None:
            self.num_repaired += 1
            seconds = 0.0 if self._last is None else self._last + self._step
            ticks = round((seconds - self._shift) / float(self.time_base)) + (self.origin or 0)
        else:
            if self.origin is None:
                self.origin = pts
            # Integers first: exact up to the one division.
            seconds = (pts - self.origin) * self.time_base.numerator / self.time_base.denominator
            ticks, seconds = pts, self._growing(seconds + self._shift)
        self._last = seconds
        return ticks, seconds

    def _growing(self, seconds: float) -> float:
        suspect, self._suspect = self._suspect, None
        if self._last is None:
            return seconds
        if seconds > self._last:
            if not self.may_leap or seconds <= self._last + LARGE_SECONDS:
                return seconds
            self.num_repaired += 1
            self._shift -= seconds - self._last - self._step
            return self._last + self._step
        self.num_repaired += 1
        back = self._last - seconds
        if back <= SMALL_STEPS * self._step or not (self.may_restart or back > LARGE_SECONDS):
            return self._last + min(float(self.time_base), self._step / 100)
        if suspect is not None and seconds > suspect:
            # The suspect was placed half a step after the frame before it; it should have been a whole one.
            self._shift += self._last + self._step / 2 - suspect
            return self._last + self._step / 2 + (seconds - suspect)
        self._suspect = seconds
        return self._last + self._step / 2
