"""Which stage takes how long, and in which one a job failed."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from handler.errors import ComputeError, ErrorCode, JobError, Stage, WorkerError
from handler.transfer.errors import is_disk_full
from model_cache.errors import DeviceFault, DeviceOutOfMemory, ModelOutputInvalid

Item = TypeVar("Item")

_MODEL_ERRORS: dict[type[Exception], tuple[ErrorCode, str]] = {
    DeviceOutOfMemory: (ErrorCode.GPU_OUT_OF_MEMORY, "a single frame does not fit into the device's memory"),
    DeviceFault: (ErrorCode.GPU_FAULT, "the device failed and needs a new process"),
    ModelOutputInvalid: (ErrorCode.MODEL_OUTPUT_INVALID, ""),  # its own words say which output
}


class StageTimer:
    """Seconds of work per stage, over all threads; nested stages are not counted twice."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[Stage, float] = {}
        self._local = threading.local()
        self._start = clock()

    @contextmanager
    def stage(self, name: Stage, *, counts: bool = True) -> Iterator[None]:
        """Count the time inside for this stage (for none if it only waits), and name the stage in errors.

        Raises:
            JobError: what came out of the stage, with its code and stage.
        """
        outer = self._switch(name if counts else None)
        try:
            yield
        except Exception as error:
            coded = _coded(error)
            coded.stage = coded.stage or name
            if coded is error:
                raise
            raise coded from error
        finally:
            self._switch(outer)

    def each(self, name: Stage, items: Iterable[Item], *, counts: bool = True) -> Generator[Item, None, None]:
        """The same items; making each one counts for this stage, unless another thread makes them."""
        iterator = iter(items)
        try:
            while True:
                with self.stage(name, counts=counts):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item
                del item
        finally:
            if close := getattr(iterator, "close", None):
                close()

    def seconds(self) -> dict[str, float]:
        """Seconds per stage so far."""
        with self._lock:
            return {name: round(value, 3) for name, value in self._seconds.items()}

    def total_seconds(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._start

    def _switch(self, name: Stage | None) -> Stage | None:
        """Add the time since the last switch to this thread's stage and begin another; returns the former."""
        now = self._clock()
        former: Stage | None = getattr(self._local, "name", None)
        if former is not None:
            with self._lock:
                self._seconds[former] = self._seconds.get(former, 0.0) + now - self._local.since
        self._local.name, self._local.since = name, now
        return former


def _coded(error: Exception) -> JobError:
    """The error as a JobError, INTERNAL if it is none of those below."""
    if isinstance(error, JobError):
        return error
    if is_disk_full(error):
        return WorkerError(ErrorCode.DISK_FULL, "the worker's disk is full")
    for kind, (code, message) in _MODEL_ERRORS.items():
        if isinstance(error, kind):
            return ComputeError(code, message or str(error))
    return WorkerError(ErrorCode.INTERNAL, "unexpected error")
