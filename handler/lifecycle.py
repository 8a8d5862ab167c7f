"""When this worker process ends: SIGTERM idle or busy, or a reply that asked for a fresh worker.

Knows nothing of what jobs do. The hook into RunPod's SDK is its `concurrency_modifier`, which the SDK calls
on the main thread at the top of every take loop, after it has put its own signal handlers in place.

Idle, SIGTERM ends the process at once: the SDK's own way waits for its open poll (up to 90 s) and can take a
job that it never runs. Busy, the job may finish within `shutdown_seconds`; after that it is stopped within a
frame, cleaned up, and left unanswered. A job whose worker is gone goes back to the queue and runs again under
the same id, while an error reply would be final. No half result is ever posted.
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

from handler.handler import Handler

CLEAN_UP_SECONDS = 2.0  # for a stopped job to remove its files; then the process ends regardless
POLL_SECONDS = 0.05

log = structlog.get_logger(__name__)


class Lifecycle:
    """Decides when the process ends, and ends it.

    Args:
        handler: the job in progress is stopped through it.
        num_jobs: jobs that the SDK has taken and not yet answered.
        shutdown_seconds: how long a busy worker may take after SIGTERM.
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
        """One job at a time; also the moment to hook the signals and to leave between two jobs."""
        if not self._hooked:
            self._hooked = True
            for number in (signal.SIGTERM, signal.SIGINT):
                self._hook(number)
        if self._handler.leaving and not self._num_jobs():
            self._leave(f"fresh worker wanted: {self._handler.leaving}")
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
        log.warning("shutting down; the job may still finish", within_seconds=self._shutdown_seconds)
        if not self._wait_until_idle(self._shutdown_seconds):
            self._handler.stop("SHUTTING_DOWN", "this worker was told to shut down")
            self._wait_until_idle(CLEAN_UP_SECONDS)
        self._leave(f"{reason} while busy")

    def _wait_until_idle(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._num_jobs() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return not self._num_jobs()

    def _leave(self, reason: str) -> NoReturn:
        """End the process now: `sys.exit` would wait for open polls and for threads that never end."""
        with contextlib.suppress(Exception):
            log.info("worker ends", reason=reason)
            self._clean_up()
        for child in multiprocessing.active_children():  # the heartbeat would outlive us and hold stdout
            child.kill()
        os._exit(0)
