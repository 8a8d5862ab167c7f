"""Which workers are there, what each must stop, and who waits for news. Knows no HTTP and no processes.

All of it is in memory: heartbeats tell a restarted endpoint the same again.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from ops.endpoint.queue import JobQueue, Stop

log = structlog.get_logger(__name__)


class Bell:
    """Wakes everyone who waits, whenever anything changed; they look for themselves what it was."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until the next ring, at most so long."""
        # Not wait_for: in Python 3.11 it swallows a cancellation that comes with the ring.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._event.wait()


@dataclass(slots=True, kw_only=True)
class Worker:
    """What is known of one worker process.

    Attributes:
        worker_id: its `RUNPOD_POD_ID`.
        is_ours: this endpoint started its process and watches it.
        last_heard: when it last spoke, on the desk's clock.
        has_asked: it has asked for a job, so it is past its start.
        must_leave: it gets no more jobs and its process is to end.
        stops: jobs it must stop, with when that was first known; kept until it no longer names them.
        told: those of them that it has been told since it last named them.
    """

    worker_id: str
    is_ours: bool
    last_heard: float
    has_asked: bool = False
    must_leave: asyncio.Event = field(default_factory=asyncio.Event)
    stops: dict[str, float] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)


class Desk:
    """The meeting point of callers, workers and the clock.

    Args:
        queue: where jobs are.
        lease_seconds: a worker of another machine or container that is silent for so long is gone.
        stop_seconds: a worker that goes on with a stopped job for so long must leave.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        queue: JobQueue,
        *,
        lease_seconds: float,
        stop_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue = queue
        self.bell = Bell()
        self.is_closing = False
        self.unhealthy: set[int] = set()  # places of our own whose workers end before they ask for a job
        self._lease_seconds = lease_seconds
        self._stop_seconds = stop_seconds
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self._gone: set[str] = set()
        self._parted: dict[str, bool] = {}  # whose jobs are not back yet, and whether it was their fault

    def expect(self, worker_id: str) -> Worker:
        """Our own process was started and will report under this id."""
        worker = Worker(worker_id=worker_id, is_ours=True, last_heard=self._clock())
        self._workers[worker_id] = worker
        return worker

    def hear(self, worker_id: str) -> Worker | None:
        """A worker spoke; None if its process is known to have ended (its heartbeat can outlive it)."""
        if worker_id in self._gone:
            return None
        worker = self._workers.get(worker_id)
        if worker is None:
            worker = self._workers[worker_id] = Worker(worker_id=worker_id, is_ours=False, last_heard=0)
        worker.last_heard = self._clock()
        return worker

    def part(self, worker_id: str, *, its_fault: bool = True) -> None:
        """A worker's process has ended: its jobs go back to the queue, as soon as that can be written."""
        self._workers.pop(worker_id, None)
        self._gone.add(worker_id)
        self._parted[worker_id] = its_fault
        try:
            self._release_parted()
        except sqlite3.OperationalError as error:
            log.error("an ended worker's jobs wait until the queue can be written", error=str(error))

    def dismiss(self, worker_id: str) -> None:
        """A worker asked to be replaced, or must be; only our own processes can be."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.is_ours:
            worker.must_leave.set()
            self.bell.ring()

    def stop(self, stops: Iterable[Stop]) -> None:
        """Remember what workers must stop."""
        for stop in stops:
            worker = self._workers.get(stop.worker_id)
            if worker is not None and stop.job_id not in worker.stops:
                worker.stops[stop.job_id] = self._clock()
                self.bell.ring()

    def named(self, worker: Worker, job_ids: Iterable[str]) -> None:
        """A heartbeat named the jobs a worker works on: renew them, and know what it must stop."""
        stops = self.queue.heartbeat(worker.worker_id, job_ids)
        still = {stop.job_id for stop in stops}
        for job_id in worker.stops.keys() - still:
            if job_id in worker.told:  # it obeyed
                del worker.stops[job_id]
                worker.told.discard(job_id)
        self.stop(stops)
        if still & worker.told:  # a stop can get lost: the SDK drops one that comes before the job has begun
            worker.told -= still
            self.bell.ring()
        if any(self._clock() - worker.stops[job_id] >= self._stop_seconds for job_id in still):
            self.dismiss(worker.worker_id)

    def tell_stops(self, worker: Worker) -> list[str]:
        """The jobs a worker has yet to be told to stop, or to be told again."""
        new = [job_id for job_id in worker.stops if job_id not in worker.told]
        worker.told.update(new)
        return new

    def given(self, worker: Worker, job_ids: Iterable[str]) -> None:
        """A worker got these jobs (again): no earlier stop concerns them."""
        for job_id in job_ids:
            worker.stops.pop(job_id, None)
            worker.told.discard(job_id)

    def sweep(self) -> None:
        """Apply what time does to jobs, and forget silent workers of others."""
        changes = self.queue.db.total_changes
        self._release_parted()
        self.stop(self.queue.sweep())
        if self.queue.db.total_changes != changes:
            self.bell.ring()
        silent = self._clock() - self._lease_seconds
        for worker in list(self._workers.values()):
            if not worker.is_ours and worker.last_heard < silent:
                del self._workers[worker.worker_id]

    def _release_parted(self) -> None:
        for worker_id, its_fault in list(self._parted.items()):
            if self.queue.release(worker_id, its_fault=its_fault):
                self.bell.ring()
            del self._parted[worker_id]

    def workers(self) -> dict[str, int]:
        """The `workers` part of RunPod's /health."""
        busy = self.queue.busy_workers()
        ready = [worker for worker in self._workers.values() if worker.has_asked]
        running = sum(worker.worker_id in busy for worker in ready)
        return {
            "idle": len(ready) - running,
            "initializing": len(self._workers) - len(ready),
            "ready": len(ready),
            "running": running,
            "throttled": 0,
            "unhealthy": len(self.unhealthy),
        }
