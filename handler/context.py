"""What a job carries through its stages: its request, its folder, and how it is stopped and watched.

Every stage calls `check()` at least once per frame, file chunk, network chunk and uploaded part. The call
tells the watchdog that the job makes progress, and raises if the job must end.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from handler.errors import ErrorCode, JobError, WorkerError
from handler.job import JobInput
from handler.progress import Report

Check = Callable[[], None]
Item = TypeVar("Item")

CHUNK_BYTES = 1024 * 1024  # of a file, between two checks


class JobControl:
    """Stops one job, at the latest after its time budget, and knows when it last made progress.

    Safe to use from any thread.
    """

    def __init__(self, *, time_budget_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = clock() + time_budget_seconds
        self._time_budget_seconds = time_budget_seconds
        self._last_check = clock()
        self._lock = threading.Lock()
        self._reason: tuple[ErrorCode, str] | None = None

    def stop(self, code: ErrorCode, message: str) -> None:
        """Make every later `check()` raise this WorkerError; the first reason given stays."""
        with self._lock:
            if self._reason is None:
                self._reason = (code, message)

    def check(self) -> None:
        """Note that the job makes progress, and raise if it must end.

        Raises:
            WorkerError: CANCELLED, SHUTTING_DOWN, STALLED or TIME_BUDGET_EXCEEDED.
        """
        now = self._clock()
        self._last_check = now
        if now > self._deadline:
            self.stop(
                ErrorCode.TIME_BUDGET_EXCEEDED,
                f"the job took longer than {self._time_budget_seconds:.0f} s; send a shorter part",
            )
        if error := self.stopped():
            raise error

    def stopped(self) -> JobError | None:
        """The reason to end the job, or None; a new exception each time, since threads may share it."""
        with self._lock:
            return WorkerError(*self._reason) if self._reason else None

    def silence_seconds(self) -> float:
        """Seconds since the last `check()`."""
        return self._clock() - self._last_check

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, with a `check()` before each and one after the last."""
        for item in items:
            self.check()
            yield item
        self.check()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """One valid job and everything that belongs to it alone.

    Attributes:
        job_id: the idempotency key.
        input_sha256: of the input as it came, as canonical JSON.
        folder: private and empty; removed after the job.
    """

    job_id: str
    request: JobInput
    input_sha256: str
    folder: Path
    control: JobControl
    report: Report


def unstoppable() -> None:
    """A check that never stops the work."""


def read_chunks(path: Path, check: Check) -> Iterator[bytes]:
    """The bytes of a file, with a `check()` before each chunk of `CHUNK_BYTES`."""
    with path.open("rb", buffering=0) as file:
        while True:
            check()
            chunk = file.read(CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
