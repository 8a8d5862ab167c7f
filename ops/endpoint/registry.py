"""The workers of the endpoint, what each must stop, and who waits for changes.

All of it is in memory: after a restart of the endpoint, heartbeats tell it again.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from ops.endpoint.jobs import Stop
from ops.endpoint.queue import JobQueue
from ops.endpoint.settings import ServeSettings

log = structlog.get_logger(__name__)


class Notifier:
    """Wakes all waiting tasks after any change; each checks for itself what changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait until the next change, for at most `seconds`."""
        # Not wait_for: in Python 3.11 it swallows a cancellation that comes with the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._event.wait()


@dataclass(slots=True, kw_only=True)
class Worker:
    """What is known of one worker process."""

    worker_id: str  # its `RUNPOD_POD_ID`
    is_ours: bool  # this endpoint started its process and watches it
    last_heard: float  # on the registry's clock
    has_asked: bool = False  # for a job, so it is past its start
    must_leave: bool = False  # it gets no more jobs and its process is to end
    stops: dict[str, float] = field(default_factory=dict)  # jobs it must stop, with when that was first known
    told: set[str] = field(default_factory=set)  # those it has been told since its last heartbeat


class WorkerRegistry:
    """Every worker that has been started here or heard of, and the queue they take jobs from.

    A worker of another machine that is silent for a lease is gone; one that goes on with a stopped job for
    `stop_seconds` must leave. `clock` gives seconds that only grow.
    """

    def __init__(
        self, queue: JobQueue, settings: ServeSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.queue = queue
        self.changes = Notifier()
        queue.on_change = self.changes.notify
        self.is_closing = False
        self.unhealthy: set[int] = set()  # places of our own whose workers end before they ask for a job
        self._settings = settings
        self._clock = clock
        self._workers: dict[str, Worker] = {}
        self._ended: set[str] = set()
        self._unreleased: dict[str, bool] = {}  # whose jobs are not back yet, and whether it was their fault

    def close(self) -> None:
        """Give out no more jobs, and let workers end."""
        self.is_closing = True
        self.changes.notify()

    def add(self, worker_id: str) -> Worker:
        """Our own process is being started and will report under this id."""
        worker = Worker(worker_id=worker_id, is_ours=True, last_heard=self._clock())
        self._workers[worker_id] = worker
        return worker

    def heard(self, worker_id: str) -> Worker | None:
        """A worker spoke; None if its process is known to have ended (its heartbeat can outlive it)."""
        if worker_id in self._ended:
            return None
        unknown = Worker(worker_id=worker_id, is_ours=False, last_heard=0.0)
        worker = self._workers.setdefault(worker_id, unknown)
        worker.last_heard = self._clock()
        return worker

    def ended(self, worker_id: str, *, its_fault: bool = True) -> None:
        """A worker's process has ended: its jobs go back to the queue, as soon as that can be written."""
        self._workers.pop(worker_id, None)
        self._ended.add(worker_id)
        self._unreleased[worker_id] = its_fault
        try:
            self._release()
        except sqlite3.OperationalError as error:
            log.error("an ended worker's jobs wait until the queue can be written", error=str(error))

    def dismiss(self, worker_id: str) -> None:
        """A worker asked to be replaced, or must be; only our own processes can be."""
        worker = self._workers.get(worker_id)
        if worker is not None and worker.is_ours:
            worker.must_leave = True
            self.changes.notify()

    def stop(self, stops: Iterable[Stop]) -> None:
        """Remember what workers must stop."""
        for stop in stops:
            worker = self._workers.get(stop.worker_id)
            if worker is not None and stop.job_id not in worker.stops:
                worker.stops[stop.job_id] = self._clock()
                self.changes.notify()

    def heartbeat(self, worker: Worker, job_ids: Iterable[str]) -> None:
        """A worker named the jobs it works on: renew them, and know what it must stop."""
        stops = self.queue.heartbeat(worker.worker_id, job_ids)
        still = {stop.job_id for stop in stops}
        for job_id in worker.stops.keys() - still:
            if job_id in worker.told:  # it obeyed
                self._forget_stop(worker, job_id)
        self.stop(stops)
        if still & worker.told:  # a stop can get lost: the SDK drops one that comes before the job has begun
            worker.told -= still
            self.changes.notify()
        if any(self._clock() - worker.stops[job_id] >= self._settings.stop_seconds for job_id in still):
            self.dismiss(worker.worker_id)

    def untold_stops(self, worker: Worker) -> list[str]:
        """The jobs a worker has yet to be told to stop, or to be told again; they count as told now."""
        untold = [job_id for job_id in worker.stops if job_id not in worker.told]
        worker.told.update(untold)
        return untold

    def given(self, worker: Worker, job_ids: Iterable[str]) -> None:
        """A worker got these jobs (again): no earlier stop concerns them."""
        for job_id in job_ids:
            self._forget_stop(worker, job_id)

    def sweep(self) -> None:
        """Apply what time does to jobs, and forget silent workers of others."""
        self._release()
        self.stop(self.queue.sweep())
        silent = self._clock() - self._settings.lease_seconds
        self._workers = {
            name: worker
            for name, worker in self._workers.items()
            if worker.is_ours or worker.last_heard >= silent
        }

    def counts(self) -> dict[str, int]:
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

    def _forget_stop(self, worker: Worker, job_id: str) -> None:
        worker.stops.pop(job_id, None)
        worker.told.discard(job_id)

    def _release(self) -> None:
        for worker_id, its_fault in list(self._unreleased.items()):
            self.queue.release(worker_id, its_fault=its_fault)
            del self._unreleased[worker_id]
