"""The durable queue: every job's state in SQLite, each change one transaction. Knows nothing of HTTP.

A worker *leases* a job. Its heartbeats renew the lease; when they stop, the job goes back to its place in
the queue, and after `max_attempts` lost workers it fails. Only the worker that holds a job may report on
it, with one exception: a worker that was silent for too long gets its job back, or may still complete it,
as long as nobody else took it.

One process at a time may use a queue file; what is in it outlives the process.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handler.errors import EndpointError
from handler.settings import ServeSettings
from ops.endpoint.database import as_job, one_job, open_database, transaction
from ops.endpoint.jobs import FINAL, Job, State, failure_output


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A worker that must stop working on a job."""

    worker_id: str
    job_id: str


class JobQueue:
    """The jobs of one endpoint.

    Args:
        path: the SQLite file; made if it is not there.
        settings: lease, attempts, retention.
        clock: seconds since the epoch.

    Raises:
        QueueUnusable: the file is not a queue, or one of another version.
    """

    def __init__(self, path: Path, settings: ServeSettings, clock: Callable[[], float] = time.time) -> None:
        self.db = open_database(path)
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
        with transaction(self.db) as db:
            return one_job(
                db.execute(
                    "INSERT INTO jobs (id, status, request, webhook, is_sync, execution_timeout_seconds,"
                    " ttl_seconds, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                    values,
                )
            )

    def get(self, job_id: str) -> Job | None:
        """A job, if it is still kept."""
        found = self._select("id = ?", job_id)
        return found[0] if found else None

    def cancel(self, job_id: str) -> tuple[Job | None, Stop | None]:
        """End a job that has not ended; returns it, and the worker that must stop if one has it."""
        with transaction(self.db):
            job = self.get(job_id)
            if job is None or job.status in FINAL:
                return job, None
            return self._end(job, State.CANCELLED), _stop(job)

    def retry(self, job_id: str) -> Job | None:
        """Queue a FAILED or TIMED_OUT job again, as if new, at the end; None if it is in another state."""
        with transaction(self.db) as db:
            rows = db.execute(
                "UPDATE jobs SET status = ?, seq = (SELECT MAX(seq) + 1 FROM jobs), created_at = ?,"
                " attempts = 0, retries = retries + 1, started_at = NULL, finished_at = NULL,"
                " worker_id = NULL, output = NULL, error = NULL, webhook_due_at = NULL"
                " WHERE id = ? AND status IN (?, ?) RETURNING *",
                (State.IN_QUEUE, self._clock(), job_id, State.FAILED, State.TIMED_OUT),
            ).fetchall()
            if not rows:
                return None
            db.execute("DELETE FROM chunks WHERE job_id = ?", (job_id,))
            self._count("retried")
            return as_job(rows[0])

    def purge(self) -> int:
        """Cancel every job that waits; returns how many."""
        with transaction(self.db):
            waiting = self._select("status = ?", State.IN_QUEUE)
            for job in waiting:
                self._end(job, State.CANCELLED)
            return len(waiting)

    def read_chunks(self, job_id: str) -> list[bytes]:
        """The streamed parts that have not been read yet, each handed out once."""
        with transaction(self.db) as db:
            rows = db.execute("SELECT body FROM chunks WHERE job_id = ? ORDER BY seq", (job_id,)).fetchall()
            db.execute("DELETE FROM chunks WHERE job_id = ?", (job_id,))
        return [row["body"] for row in rows]

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
        with transaction(self.db) as db:
            jobs = self._select("status = ? ORDER BY seq LIMIT ?", State.IN_QUEUE, limit)
            for job in jobs:  # the parts that an earlier run streamed
                db.execute("DELETE FROM chunks WHERE job_id = ?", (job.id,))
            return [
                one_job(
                    db.execute(
                        "UPDATE jobs SET status = ?, worker_id = ?, started_at = ?, lease_until = ?,"
                        " attempts = attempts + 1 WHERE id = ? RETURNING *",
                        (State.IN_PROGRESS, worker_id, now, now + self._settings.lease_seconds, job.id),
                    )
                )
                for job in jobs
            ]

    def heartbeat(self, worker_id: str, job_ids: Iterable[str]) -> list[Stop]:
        """Renew a worker's leases on the jobs it says it works on; returns those it must stop."""
        stops = []
        with transaction(self.db) as db:
            for job_id in job_ids:
                job = self.get(job_id)
                if job is not None and _may_report(job, worker_id):
                    db.execute(
                        "UPDATE jobs SET status = ?, lease_until = ? WHERE id = ?",
                        (State.IN_PROGRESS, self._clock() + self._settings.lease_seconds, job_id),
                    )
                elif job is None or not _has_reported(job, worker_id):
                    stops.append(Stop(worker_id=worker_id, job_id=job_id))
        return stops

    def progress(self, job_id: str, worker_id: str, output: bytes) -> bool:
        """Show a running job's progress as its output; False if the job is not this worker's any more."""
        lease_until = self._clock() + self._settings.lease_seconds
        with transaction(self.db) as db:
            changed = db.execute(
                "UPDATE jobs SET output = ?, lease_until = ? WHERE id = ? AND worker_id = ? AND status = ?",
                (output, lease_until, job_id, worker_id, State.IN_PROGRESS),
            )
            return changed.rowcount == 1

    def add_chunk(self, job_id: str, worker_id: str, body: bytes) -> bool:
        """Keep one streamed part of a running job; False if the job is not this worker's any more."""
        with transaction(self.db) as db:
            changed = db.execute(
                "INSERT INTO chunks (job_id, body)"
                " SELECT id, ? FROM jobs WHERE id = ? AND worker_id = ? AND status = ?",
                (body, job_id, worker_id, State.IN_PROGRESS),
            )
            return changed.rowcount == 1

    def finish(self, job_id: str, worker_id: str, output: bytes | None, error: str | None = None) -> bool:
        """End a job with its worker's result; False if the job is not this worker's to end any more.

        A failure that arrives after the job went back to the queue is not kept: the next worker decides.
        """
        with transaction(self.db):
            job = self.get(job_id)
            if job is None or not _may_report(job, worker_id):
                return False
            if error is not None and job.status is State.IN_QUEUE:
                return False
            self._end(job, State.COMPLETED if error is None else State.FAILED, output, error)
            return True

    def release(self, worker_id: str, *, its_fault: bool = True) -> list[Job]:
        """A worker is gone, or has lost its jobs: they go back to the queue, or fail after too many attempts.

        Args:
            worker_id: whose jobs.
            its_fault: False if the endpoint itself ended the worker, which must not count against its jobs.
        """
        with transaction(self.db):
            held = self._select("status = ? AND worker_id = ?", State.IN_PROGRESS, worker_id)
            return [self._lose(job, its_fault=its_fault, may_return=False) for job in held]

    def busy_workers(self) -> set[str]:
        """The workers that have a job."""
        return {job.worker_id for job in self._select("status = ?", State.IN_PROGRESS) if job.worker_id}

    # What time does

    def renew_leases(self) -> None:
        """After a time in which no heartbeat could arrive: give every worker a whole lease to be heard."""
        until = self._clock() + self._settings.lease_seconds
        with transaction(self.db) as db:
            db.execute("UPDATE jobs SET lease_until = ? WHERE status = ?", (until, State.IN_PROGRESS))

    def sweep(self) -> list[Stop]:
        """Apply time limits, lost leases and retention; returns the workers that must stop a job."""
        now = self._clock()
        with transaction(self.db) as db:
            unfinished = (State.IN_QUEUE, State.IN_PROGRESS)
            expired = self._select("status IN (?, ?) AND created_at + ttl_seconds <= ?", *unfinished, now)
            for job in expired:
                db.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
            running = self._select("status = ?", State.IN_PROGRESS)
            too_long = [job for job in running if _started(job) + job.execution_timeout_seconds <= now]
            for job in too_long:
                message = f"the job ran longer than {job.execution_timeout_seconds:g} s"
                self._fail(job, State.TIMED_OUT, EndpointError("EXECUTION_TIMEOUT", message))
            for job in self._select("status = ? AND lease_until <= ?", State.IN_PROGRESS, now):
                self._lose(job, its_fault=True, may_return=True)
            db.execute(
                "DELETE FROM jobs WHERE finished_at + IIF(is_sync, ?, ?) <= ? AND webhook_due_at IS NULL",
                (self._settings.sync_result_seconds, self._settings.result_seconds, now),
            )
        return [stop for job in (*expired, *too_long) if (stop := _stop(job))]

    # Webhooks, remembered here so that a restart forgets none

    def due_webhooks(self, limit: int) -> list[Job]:
        """Ended jobs whose webhook is to be called now."""
        return self._select("webhook_due_at <= ? ORDER BY webhook_due_at LIMIT ?", self._clock(), limit)

    def postpone_webhooks(self, jobs: Iterable[Job]) -> None:
        """Webhooks that are about to be called are due again later, whatever becomes of the call."""
        due_at = self._clock() + self._settings.webhook_interval_seconds
        with transaction(self.db) as db:
            for job in jobs:
                db.execute(
                    "UPDATE jobs SET webhook_due_at = ? WHERE id = ? AND finished_at = ?",
                    (due_at, job.id, job.finished_at),
                )

    def webhook_called(self, job: Job, *, accepted: bool) -> None:
        """Note a call about this ending of a job; if it failed, it is due again a bounded number of times."""
        calls = job.webhook_calls + 1
        is_over = accepted or calls >= self._settings.webhook_attempts
        due_at = None if is_over else self._clock() + self._settings.webhook_interval_seconds
        with transaction(self.db) as db:
            db.execute(
                "UPDATE jobs SET webhook_due_at = ?, webhook_calls = ? WHERE id = ? AND finished_at = ?",
                (due_at, calls, job.id, job.finished_at),
            )

    # Inside a transaction

    def _end(self, job: Job, status: State, output: bytes | None = None, error: str | None = None) -> Job:
        # RunPod tells nobody of a cancelled job: its caller cancelled it.
        due_at = None if job.webhook is None or status is State.CANCELLED else self._clock()
        if status is not State.CANCELLED:
            self._count("completed" if status is State.COMPLETED else "failed")
        return one_job(
            self.db.execute(
                "UPDATE jobs SET status = ?, output = ?, error = ?, finished_at = ?, webhook_due_at = ?,"
                " webhook_calls = 0, lease_until = NULL WHERE id = ? RETURNING *",
                (status, output, error, self._clock(), due_at, job.id),
            )
        )

    def _fail(self, job: Job, status: State, error: EndpointError) -> Job:
        return self._end(job, status, failure_output(error, job.id), str(error))

    def _lose(self, job: Job, *, its_fault: bool, may_return: bool) -> Job:
        is_last = its_fault and job.attempts >= self._settings.max_attempts
        self.db.execute(
            "UPDATE jobs SET attempts = attempts - ?, worker_id = IIF(?, worker_id, NULL) WHERE id = ?",
            (not its_fault, may_return and not is_last, job.id),
        )
        if is_last:
            message = f"{job.attempts} workers ended or fell silent while they had the job"
            return self._fail(job, State.FAILED, EndpointError("WORKER_LOST", message))
        self._count("retried")
        return one_job(
            self.db.execute(
                "UPDATE jobs SET status = ?, lease_until = NULL, output = NULL, retries = retries + 1"
                " WHERE id = ? RETURNING *",
                (State.IN_QUEUE, job.id),
            )
        )

    def _count(self, name: str) -> None:
        self.db.execute("UPDATE totals SET value = value + 1 WHERE name = ?", (name,))

    def _select(self, where: str, *values: Any) -> list[Job]:
        rows = self.db.execute(f"SELECT * FROM jobs WHERE {where}", values)  # noqa: S608 - constants above
        return [as_job(row) for row in rows.fetchall()]


def _may_report(job: Job, worker_id: str) -> bool:
    """Whether a worker has the job, or had it last and nobody took it since."""
    return job.worker_id == worker_id and job.status in (State.IN_PROGRESS, State.IN_QUEUE)


def _has_reported(job: Job, worker_id: str) -> bool:
    """Whether the job ended by this worker's own report, which a late heartbeat may still name."""
    return job.worker_id == worker_id and job.status in (State.COMPLETED, State.FAILED)


def _stop(job: Job) -> Stop | None:
    if job.status is not State.IN_PROGRESS or job.worker_id is None:
        return None
    return Stop(worker_id=job.worker_id, job_id=job.id)


def _started(job: Job) -> float:
    assert job.started_at is not None, "a running job has started"
    return job.started_at
