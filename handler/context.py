"""How a running job is ended from outside and shows that it is alive. Knows nothing of what it does.

Stages call `check()` once per frame, per chunk of a file that is read or copied, per downloaded chunk and per
uploaded part: it beats the pulse that the watchdog listens to, and raises if the job must end.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from handler.errors import JobError, WorkerError

Item = TypeVar("Item")

CHUNK_BYTES = 1024 * 1024  # of a file, between two checks


class JobControl:
    """The life line of one job; safe to use from any thread.

    Args:
        time_budget_seconds: the job ends itself after this.
        clock: seconds that only grow.
    """

    def __init__(self, *, time_budget_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = clock() + time_budget_seconds
        self._time_budget_seconds = time_budget_seconds
        self._last_pulse = clock()
        self._lock = threading.Lock()
        self._reason: tuple[str, str] | None = None

    def stop(self, code: str, message: str) -> None:
        """Make every later `check()` raise this WorkerError; the first reason given stays."""
        with self._lock:
            if self._reason is None:
                self._reason = (code, message)

    def check(self) -> None:
        """Beat the pulse, and raise if the job must end.

        Raises:
            WorkerError: CANCELLED, SHUTTING_DOWN, STALLED or TIME_BUDGET_EXCEEDED.
        """
        now = self._clock()
        self._last_pulse = now
        if now > self._deadline:
            self.stop(
                "TIME_BUDGET_EXCEEDED",
                f"the job took longer than {self._time_budget_seconds:.0f} s; send a shorter part",
            )
        if error := self.stopped():
            raise error

    def stopped(self) -> JobError | None:
        """Why the job must end, if it must; a new exception each time, since threads may share it."""
        with self._lock:
            return WorkerError(*self._reason) if self._reason else None

    def silence_seconds(self) -> float:
        """Seconds since the last `check()`."""
        return self._clock() - self._last_pulse

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, with a `check()` before each and one after the last."""
        for item in items:
            self.check()
            yield item
        self.check()


def unstoppable() -> None:
    """The check of work that nobody can end."""


def read_chunks(path: Path, check: Callable[[], None]) -> Iterator[bytes]:
    """The bytes of a file, with a `check()` before each chunk of `CHUNK_BYTES`."""
    with path.open("rb", buffering=0) as file:
        while True:
            check()
            chunk = file.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
