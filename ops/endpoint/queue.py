"""The durable queue: every job's state in SQLite, each change one transaction.

A worker *leases* a job. Its heartbeats renew the lease; when they stop, the job goes back to its place in
the queue, and after `max_attempts` lost workers it fails. Only the worker that holds a job may report on
it, with one exception: a worker that was silent for too long gets its job back, or may still complete it,
as long as no other worker took it.

One process at a time may use a queue file; what is in it outlives the process.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from handler.errors import EndpointError, ErrorCode
from ops.endpoint.jobs import FINAL, Job, State, Stop, as_job, open_database, transaction
from ops.endpoint.settings import ServeSettings


class JobQueue:
    """The jobs of one endpoint, in a SQLite file that is made if it is not there.

    `on_change` is called after every change; `clock` gives seconds since the epoch.

    Raises:
        CannotServe: the file is not a queue, or one of another version.
    """

    def __init__(self, path: Path, settings: ServeSettings, clock: Callable[[], float] = time.time) -> None:
        self.db = open_database(path)
        self.on_change: Callable[[], None] = lambda: None
        self._settings = settings
        self._clock = clock

    def close(self) -> None:
        """Close the file; everything is already in it."""
        self.db.close()

    # What callers do

    def submit(
        self,
        job_id: str,
        request: bytes,
        *,
        webhook: str | None = None,
        is_sync: bool = False,
        execution_timeout_seconds: float | None = None,
        ttl_seconds: float | None = None,
    ) -> Job:
        """Put a job at the end of the queue; it is on the disk when this returns."""
        timeout = execution_timeout_seconds or self._settings.execution_timeout_seconds
        ttl = ttl_seconds or self._settings.ttl_seconds
        values = (job_id, State.IN_QUEUE, request, webhook, is_sync, timeout, ttl, self._clock())
        with self._transaction():
            (job,) = self._jobs(
                "INSERT INTO jobs (id, status, request, webhook, is_sync, execution_timeout_seconds,"
                " ttl_seconds, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                *values,
            )
        return job

    def get(self, job_id: str) -> Job | None:
        """A job, if it is still kept."""
        found = self._select("id = ?", job_id)
        return found[0] if found else None

    def cancel(self, job_id: str) -> tuple[Job | None, list[Stop]]:
        """End a job that has not ended; returns it, and the worker that must stop if one has it."""
        with self._transaction():
            job = self.get(job_id)
            if job is None or job.status in FINAL:
                return job, []
            return self._end(job, State.CANCELLED), _stops([job])

    def retry(self, job_id: str) -> Job | None:
        """Queue a FAILED or TIMED_OUT job again, as if new, at the end; None if it is in another state."""
        with self._transaction():
            jobs = self._update(
                "status = ?, seq = (SELECT MAX(seq) + 1 FROM jobs), created_at = ?, attempts = 0,"
                " retries = retries + 1, started_at = NULL, finished_at = NULL, worker_id = NULL,"
                " output = NULL, error = NULL, webhook_due_at = NULL",
                "id = ? AND status IN (?, ?)",
                *(State.IN_QUEUE, self._clock(), job_id, State.FAILED, State.TIMED_OUT),
            )
            self._count("retried", len(jobs))
            return jobs[0] if jobs else None

    def purge(self) -> int:
        """Cancel every job that waits; returns how many."""
        with self._transaction():
            waiting = self._select("status = ?", State.IN_QUEUE)
            for job in waiting:
                self._end(job, State.CANCELLED)
            return len(waiting)

    def counts(self) -> dict[str, int]:
        """The `jobs` part of RunPod's /health."""
        states = dict(self.db.execute("SELECT status, COUNT(*) FROM jobs GROUP BY status").fetchall())
        totals = dict(self.db.execute("SELECT name, value FROM totals").fetchall())
        waiting, running = states.get(State.IN_QUEUE, 0), states.get(State.IN_PROGRESS, 0)
        return {**totals, "inQueue": waiting, "inProgress": running}

    # What workers do

    def take(self, worker_id: str, limit: int = 1) -> list[Job]:
        """Lease the jobs that have waited longest to a worker."""
        now = self._clock()
        with self._transaction():
            jobs = self._update(
                "status = ?, worker_id = ?, started_at = ?, lease_until = ?, attempts = attempts + 1",
                "seq IN (SELECT seq FROM jobs WHERE status = ? ORDER BY seq LIMIT ?)",
                *(State.IN_PROGRESS, worker_id, now, self._lease_end(), State.IN_QUEUE, limit),
            )
        return sorted(jobs, key=lambda job: job.seq)

    def heartbeat(self, worker_id: str, job_ids: Iterable[str]) -> list[Stop]:
        """Renew a worker's leases on the jobs it says it works on; returns those it must stop."""
        stops = []
        with self._transaction():
            for job_id in job_ids:
                job = self.get(job_id)
                if job is not None and job.may_report(worker_id):
                    self._update(
                        "status = ?, lease_until = ?", "id = ?", State.IN_PROGRESS, self._lease_end(), job_id
                    )
                elif job is None or not job.has_reported(worker_id):
                    stops.append(Stop(worker_id, job_id))
        return stops

    def progress(self, job_id: str, worker_id: str, output: bytes) -> bool:
        """Show a running job's progress as its output; False if the job is not this worker's any more."""
        with self._transaction():
            jobs = self._update(
                "output = ?, lease_until = ?",
                "id = ? AND worker_id = ? AND status = ?",
                *(output, self._lease_end(), job_id, worker_id, State.IN_PROGRESS),
            )
        return bool(jobs)

    def finish(self, job_id: str, worker_id: str, output: bytes | None, error: str | None = None) -> bool:
        """End a job with its worker's result; False if the job is not this worker's to end any more.

        A failure that arrives after the job went back to the queue is not kept: the next worker decides.
        """
        with self._transaction():
            job = self.get(job_id)
            if job is None or not job.may_report(worker_id):
                return False
            if error is not None and job.status is State.IN_QUEUE:
                return False
            self._end(job, State.COMPLETED if error is None else State.FAILED, output, error)
            return True

    def finish_with_error(self, job_id: str, worker_id: str, error: EndpointError) -> bool:
        """The same for a result that could not be taken."""
        return self.finish(job_id, worker_id, _error_output(error, job_id), str(error))

    def release(self, worker_id: str, *, its_fault: bool = True) -> list[Job]:
        """A worker is gone, or has lost its jobs: they go back to the queue, or fail after too many attempts.

        Not `its_fault`: the endpoint itself ended the worker, which must not count against the jobs.
        """
        with self._transaction():
            held = self._select("status = ? AND worker_id = ?", State.IN_PROGRESS, worker_id)
            return [self._lose(job, its_fault=its_fault, may_return=False) for job in held]

    def busy_workers(self) -> set[str]:
        """The workers that have a job."""
        return {job.worker_id for job in self._select("status = ?", State.IN_PROGRESS) if job.worker_id}

    # What time does

    def renew_leases(self) -> None:
        """After a time in which no heartbeat could arrive: give every worker a whole lease to be heard."""
        with self._transaction():
            self._update("lease_until = ?", "status = ?", self._lease_end(), State.IN_PROGRESS)

    def sweep(self) -> list[Stop]:
        """Apply time limits, lost leases and retention; returns the workers that must stop a job."""
        now = self._clock()
        with self._transaction() as db:
            expired = self._jobs(
                "DELETE FROM jobs WHERE status IN (?, ?) AND created_at + ttl_seconds <= ? RETURNING *",
                *(State.IN_QUEUE, State.IN_PROGRESS, now),
            )
            over = "status = ? AND started_at + execution_timeout_seconds <= ?"
            too_long = self._select(over, State.IN_PROGRESS, now)
            for job in too_long:
                message = f"the job ran longer than {job.execution_timeout_seconds:g} s"
                self._fail(job, State.TIMED_OUT, EndpointError(ErrorCode.EXECUTION_TIMEOUT, message))
            for job in self._select("status = ? AND lease_until <= ?", State.IN_PROGRESS, now):
                self._lose(job, its_fault=True, may_return=True)
            db.execute(
                "DELETE FROM jobs WHERE finished_at + IIF(is_sync, ?, ?) <= ? AND webhook_due_at IS NULL",
                (self._settings.sync_result_seconds, self._settings.result_seconds, now),
            )
        return _stops([*expired, *too_long])

    # Webhooks, kept here so that a restart forgets none

    def claim_webhooks(self, limit: int) -> list[Job]:
        """Ended jobs whose webhook is to be called now; due again later, whatever becomes of the call."""
        with self._transaction():
            return self._update(
                "webhook_due_at = ?",
                "seq IN (SELECT seq FROM jobs WHERE webhook_due_at <= ? ORDER BY webhook_due_at LIMIT ?)",
                *(self._next_call(), self._clock(), limit),
            )

    def webhook_called(self, job: Job, *, accepted: bool) -> None:
        """Note a call about this ending of a job; if it failed, it is due again a bounded number of times."""
        calls = job.webhook_calls + 1
        is_over = accepted or calls >= self._settings.webhook_attempts
        with self._transaction():
            self._update(
                "webhook_due_at = ?, webhook_calls = ?",
                "id = ? AND finished_at = ?",
                *(None if is_over else self._next_call(), calls, job.id, job.finished_at),
            )

    def _next_call(self) -> float:
        return self._clock() + self._settings.webhook_interval_seconds

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing of it; `on_change` is called if anything is different afterwards."""
        before = self.db.total_changes
        with transaction(self.db) as db:
            yield db
        if self.db.total_changes != before:
            self.on_change()

    # Inside a transaction

    def _end(self, job: Job, status: State, output: bytes | None = None, error: str | None = None) -> Job:
        # As on RunPod, a cancelled job's webhook is not called: its caller cancelled it.
        due_at = None if job.webhook is None or status is State.CANCELLED else self._clock()
        if status is not State.CANCELLED:
            self._count("completed" if status is State.COMPLETED else "failed")
        (ended,) = self._update(
            "status = ?, output = ?, error = ?, finished_at = ?, webhook_due_at = ?, webhook_calls = 0,"
            " lease_until = NULL",
            "id = ?",
            *(status, output, error, self._clock(), due_at, job.id),
        )
        return ended

    def _fail(self, job: Job, status: State, error: EndpointError) -> Job:
        return self._end(job, status, _error_output(error, job.id), str(error))

    def _lose(self, job: Job, *, its_fault: bool, may_return: bool) -> Job:
        if its_fault and job.attempts >= self._settings.max_attempts:
            self._update("worker_id = NULL", "id = ?", job.id)
            message = f"{job.attempts} workers ended or fell silent while they had the job"
            return self._fail(job, State.FAILED, EndpointError(ErrorCode.WORKER_LOST, message))
        self._count("retried")
        (waiting,) = self._update(
            "status = ?, worker_id = IIF(?, worker_id, NULL), attempts = attempts - ?, lease_until = NULL,"
            " output = NULL, retries = retries + 1",
            "id = ?",
            *(State.IN_QUEUE, may_return, not its_fault, job.id),
        )
        return waiting

    def _count(self, name: str, number: int = 1) -> None:
        self.db.execute("UPDATE totals SET value = value + ? WHERE name = ?", (number, name))

    def _lease_end(self) -> float:
        return self._clock() + self._settings.lease_seconds

    def _select(self, where: str, *values: Any) -> list[Job]:
        return self._jobs(f"SELECT * FROM jobs WHERE {where}", *values)  # noqa: S608 - constants above

    def _update(self, changes: str, where: str, *values: Any) -> list[Job]:
        return self._jobs(f"UPDATE jobs SET {changes} WHERE {where} RETURNING *", *values)  # noqa: S608

    def _jobs(self, statement: str, *values: Any) -> list[Job]:
        return [as_job(row) for row in self.db.execute(statement, values).fetchall()]


def _error_output(error: EndpointError, job_id: str) -> bytes:
    """What stands beside an error of the endpoint's own, as beside a worker's."""
    return orjson.dumps({"error_code": error.code, "retryable": error.code.retryable, "job_id": job_id})


def _stops(jobs: Iterable[Job]) -> list[Stop]:
    """For each job that runs, its worker."""
    return [Stop(j.worker_id, j.id) for j in jobs if j.status is State.IN_PROGRESS and j.worker_id]
