"""The progress of a running job: throttled, in order, and sent before the reply."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import structlog

from handler.errors import Stage
from handler.job import ProgressMessage
from handler.records import TrackedFrame

Send = Callable[[ProgressMessage, float], None]

CLOSE_SECONDS = 1.0  # for closing the connection of a message that was given up

log = structlog.get_logger(__name__)


class ProgressPump:
    """One thread per job that sends the newest message and nothing else.

    A context manager: after a clean exit the newest message has been sent or given up; after an exception it
    is dropped. Either way no message is in flight any more, so that none can follow the reply.

    Args:
        send: delivers one message within the given seconds, or raises and makes sure that it never arrives.
        interval_seconds: between two messages, at least.
        drain_seconds: longest wait on exit. A message has half of it: one may be in flight, one waiting.
    """

    def __init__(self, send: Send, *, interval_seconds: float, drain_seconds: float) -> None:
        self._send = send
        self._interval_seconds = interval_seconds
        self._drain_seconds = drain_seconds
        self._changed = threading.Condition()
        self._newest: ProgressMessage | None = None
        self._closed = False
        self._deadline = math.inf
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def put(self, message: ProgressMessage) -> None:
        """Replace the message to be sent next; never blocks on the network, never raises."""
        with self._changed:
            if not self._closed:
                self._newest = message
                self._changed.notify()

    def __enter__(self) -> "ProgressPump":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._deadline = time.monotonic() + self._drain_seconds
            if kind is not None:
                self._newest = None
            self._changed.notify()
        self._thread.join(self._drain_seconds + CLOSE_SECONDS)
        if self._thread.is_alive():
            log.warning("a progress update is still in flight", waited_seconds=self._drain_seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._closed)
                message, self._newest = self._newest, None
                seconds = min(self._drain_seconds / 2, self._deadline - time.monotonic())
            if message is None or seconds <= 0:
                return
            try:
                self._send(message, seconds)
            except Exception as error:  # noqa: BLE001 - progress must never fail a job
                log.warning("a progress update was lost", error=repr(error))
            with self._changed:
                self._changed.wait_for(lambda: self._closed, timeout=self._interval_seconds)


class Report:
    """Turns a job's stages and its stream of frames into messages for `publish`, which must not block."""

    def __init__(
        self, publish: Callable[[ProgressMessage], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._publish = publish
        self._clock = clock
        self._message = ProgressMessage(
            stage="download", frames_done=0, frames_total=None, time_s=0.0, fps=0.0, eta_s=None, people=0
        )

    def stage(self, stage: Stage) -> None:
        """Report that a stage begins."""
        self._put(stage=stage, eta_s=None)

    def count(self, frames: Iterable[TrackedFrame], frames_total: int | None) -> Iterator[TrackedFrame]:
        """The same frames, each counted and reported; more than the expected total raise it."""
        start = self._clock()
        for num_done, frame in enumerate(frames, start=1):
            yield frame
            fps = num_done / max(self._clock() - start, 1e-6)
            total = None if frames_total is None else max(frames_total, num_done)
            self._put(
                stage="track",
                frames_done=num_done,
                frames_total=total,
                time_s=round(frame.info.pts_seconds, 3),
                fps=round(fps, 2),
                eta_s=None if total is None else round((total - num_done) / fps, 1),
                people=len(frame.people),
            )

    def _put(self, **changes: object) -> None:
        self._message = self._message.model_copy(update=changes)
        self._publish(self._message)
