"""Ends the worker process: on SIGTERM, idle or busy, or after a reply that asked for a new worker.

The hook into RunPod's SDK is its `concurrency_modifier`, which the SDK calls on the main thread at the start
of every iteration of its take loop, after it has installed its own signal handlers.

Idle, SIGTERM ends the process at once: the SDK would wait for its open poll (up to 90 s) and could take a job
that it never runs. Busy, the process ends within `shutdown_seconds`, whatever the job does: for most of that
time the job may finish, then it is stopped within a frame, cleaned up, and left unanswered. The queue gives a
job whose worker is gone to another one under the same id, while an error reply would be final.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import structlog

from handler.errors import ErrorCode
from handler.handler import Handler

CLEAN_UP_SHARE = 0.25  # of that time: for a stopped job to end its uploads and remove its files
POLL_SECONDS = 0.05

log = structlog.get_logger(__name__)


class Lifecycle:
    """Decides when the process ends, and ends it.

    Args:
        handler: stops the job in progress.
        num_jobs: jobs that the SDK has taken and not yet answered.
        shutdown_seconds: time from SIGTERM to the end of a busy worker.
        clean_up: runs before the process ends; must be quick.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        num_jobs: Callable[[], int],
        shutdown_seconds: float,
        clean_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._handler = handler
        self._num_jobs = num_jobs
        self._shutdown_seconds = shutdown_seconds
        self._clean_up = clean_up
        self._hooked = False
        self._shutting_down = False

    def concurrency(self, current: int) -> int:
        """One job at a time. The SDK asks between two jobs: the time to hook the signals and to end."""
        if not self._hooked:
            self._hooked = True
            for number in (signal.SIGTERM, signal.SIGINT):
                self._hook(number)
        if self._handler.leaving and not self._num_jobs():
            self._leave(f"a new worker is needed: {self._handler.leaving}")
        return 1

    def _hook(self, number: signal.Signals) -> None:
        previous = signal.getsignal(number)

        def shut_down(signum: int, frame: FrameType | None) -> None:
            if not self._num_jobs():
                self._leave(f"{number.name} while idle")
            if self._shutting_down:
                return
            self._shutting_down = True
            self._handler.leaving = number.name
            if callable(previous):
                previous(signum, frame)  # the SDK takes no more jobs
            # Not a daemon: should the SDK's loop end first, the interpreter waits for it.
            threading.Thread(target=self._finish, args=(number.name,), name="shutdown").start()

        signal.signal(number, shut_down)

    def _finish(self, reason: str) -> None:
        end = time.monotonic() + self._shutdown_seconds
        clean_up = self._shutdown_seconds * CLEAN_UP_SHARE
        log.warning(
            "shutting down; the job may still finish", within_seconds=self._shutdown_seconds - clean_up
        )
        self._wait_until_idle(end - clean_up)
        if self._num_jobs():
            self._handler.stop(ErrorCode.SHUTTING_DOWN, "this worker was told to shut down")
            self._wait_until_idle(end)
        self._leave(f"{reason} while busy")

    def _wait_until_idle(self, end: float) -> None:
        while self._num_jobs() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))

    def _leave(self, reason: str) -> NoReturn:
        """End the process now: `sys.exit` would wait for open polls and for threads that never end."""
        with contextlib.suppress(Exception):
            log.info("worker ends", reason=reason)
            self._clean_up()
        for child in multiprocessing.active_children():
            child.kill()  # the SDK's heartbeat would go on and keep stdout open
        os._exit(0)
