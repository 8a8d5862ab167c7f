"""The durable queue: every job's state in SQLite, each change one transaction.

A worker *leases* a job. Its heartbeats renew the lease; when they stop, the job goes back to its place in
the queue, and after `max_attempts` lost workers it fails. Only the worker that holds a job may report on
it, with one exception: a worker that was silent for too long gets its job back, or may still complete it,
as long as nobody else took it.

One process at a time may use a queue file; what is in it outlives the process.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from handler.errors import EndpointError, ErrorCode
from ops.endpoint.errors import CannotServe
from ops.endpoint.settings import ServeSettings

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, status TEXT NOT NULL, request BLOB NOT NULL,
    webhook TEXT, is_sync INTEGER NOT NULL, execution_timeout_seconds REAL NOT NULL,
    ttl_seconds REAL NOT NULL, created_at REAL NOT NULL, started_at REAL, finished_at REAL,
    worker_id TEXT, lease_until REAL,
    attempts INTEGER NOT NULL DEFAULT 0, retries INTEGER NOT NULL DEFAULT 0, output BLOB, error TEXT,
    webhook_due_at REAL, webhook_calls INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_webhook ON jobs (webhook_due_at) WHERE webhook_due_at IS NOT NULL;
CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO totals VALUES ('completed', 0), ('failed', 0), ('retried', 0);
CREATE TABLE workers (id TEXT PRIMARY KEY, pid INTEGER NOT NULL, born TEXT NOT NULL);
"""


class State(StrEnum):
    """RunPod's job states."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job; the fields are the columns of the table. Times are seconds since the epoch."""

    seq: int  # its place in the queue
    id: str  # kept over retries
    status: State
    request: bytes  # JSON: `input`, and whatever else was sent (`webhook`, `policy`, `s3Config`)
    webhook: str | None
    is_sync: bool  # came by /runsync, whose results are kept for a shorter time
    execution_timeout_seconds: float
    ttl_seconds: float  # the job is deleted if it has not ended so long after `created_at`
    created_at: float
    started_at: float | None  # when a worker took it last
    finished_at: float | None
    worker_id: str | None  # who has it, or had it last
    lease_until: float | None  # when that worker counts as lost if nothing is heard from it
    attempts: int  # workers that took it since it was submitted or retried by its caller
    retries: int  # times it went back to the queue, for whatever reason
    output: bytes | None  # JSON: the newest progress, then the result
    error: str | None  # begins with a code
    webhook_due_at: float | None  # when the webhook is to be called; None if it is not (any more)
    webhook_calls: int  # about this ending

    def __repr__(self) -> str:  # without the request, which holds presigned URLs
        return f"Job(id={self.id!r}, status={self.status}, attempts={self.attempts})"

    def worker_document(self) -> dict[str, Any]:
        """What a worker is given."""
        return {**orjson.loads(self.request), "id": self.id}

    def status_document(self) -> dict[str, Any]:
        """What /status answers, for orjson to write: `delayTime` and `executionTime` in milliseconds."""
        document: dict[str, Any] = {"id": self.id, "status": self.status.value}
        if self.started_at is not None and self.status is not State.IN_QUEUE:
            document["delayTime"] = round((self.started_at - self.created_at) * 1000)
            document["workerId"] = self.worker_id
            if self.finished_at is not None:
                document["executionTime"] = round((self.finished_at - self.started_at) * 1000)
        if self.retries:
            document["retries"] = self.retries
        if self.output is not None:
            document["output"] = orjson.Fragment(self.output)
        if self.error is not None:
            document["error"] = self.error
        return document

    def webhook_document(self) -> dict[str, Any]:
        """What the webhook is sent: the status with the request's `input` and `webhook`, as RunPod does."""
        request = orjson.loads(self.request)
        return {**self.status_document(), "input": request["input"], "webhook": self.webhook}


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

    Attributes:
        on_change: called after every change.

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
            if not jobs:
                return None
            self._count("retried")
            return jobs[0]

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
                if job is not None and _may_report(job, worker_id):
                    values = (State.IN_PROGRESS, self._lease_end(), job_id)
                    self._update("status = ?, lease_until = ?", "id = ?", *values)
                elif job is None or not _has_reported(job, worker_id):
                    stops.append(Stop(worker_id=worker_id, job_id=job_id))
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
            if job is None or not _may_report(job, worker_id):
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

        Args:
            worker_id: whose jobs.
            its_fault: False if the endpoint itself ended the worker, which must not count against its jobs.
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
            too_long = self._select(
                "status = ? AND started_at + execution_timeout_seconds <= ?", State.IN_PROGRESS, now
            )
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

    def due_webhooks(self, limit: int) -> list[Job]:
        """Ended jobs whose webhook is to be called now."""
        return self._select("webhook_due_at <= ? ORDER BY webhook_due_at LIMIT ?", self._clock(), limit)

    def postpone_webhooks(self, jobs: Iterable[Job]) -> None:
        """Webhooks that are about to be called are due again later, whatever becomes of the call."""
        with self._transaction():
            for job in jobs:
                self._set_webhook(job, self._next_call(), job.webhook_calls)

    def webhook_called(self, job: Job, *, accepted: bool) -> None:
        """Note a call about this ending of a job; if it failed, it is due again a bounded number of times."""
        calls = job.webhook_calls + 1
        is_over = accepted or calls >= self._settings.webhook_attempts
        with self._transaction():
            self._set_webhook(job, None if is_over else self._next_call(), calls)

    def _set_webhook(self, job: Job, due_at: float | None, calls: int) -> None:
        values = (due_at, calls, job.id, job.finished_at)
        self._update("webhook_due_at = ?, webhook_calls = ?", "id = ? AND finished_at = ?", *values)

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
        # RunPod tells nobody of a cancelled job: its caller cancelled it.
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

    def _count(self, name: str) -> None:
        self.db.execute("UPDATE totals SET value = value + 1 WHERE name = ?", (name,))

    def _lease_end(self) -> float:
        return self._clock() + self._settings.lease_seconds

    def _select(self, where: str, *values: Any) -> list[Job]:
        return self._jobs(f"SELECT * FROM jobs WHERE {where}", *values)  # noqa: S608 - constants above

    def _update(self, changes: str, where: str, *values: Any) -> list[Job]:
        return self._jobs(f"UPDATE jobs SET {changes} WHERE {where} RETURNING *", *values)  # noqa: S608

    def _jobs(self, statement: str, *values: Any) -> list[Job]:
        return [_as_job(row) for row in self.db.execute(statement, values).fetchall()]


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, readable by its owner only (requests hold presigned URLs); made if it is not there.

    Raises:
        CannotServe: it is not a queue, or one of another version.
    """
    path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # an accepted job is on the disk
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except sqlite3.DatabaseError as error:
        db.close()
        raise CannotServe(f"{path.name} cannot be used as a queue: {error}") from error
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise CannotServe(f"{path.name} was written by another version of this program")
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the block or nothing of it; after an error the next one can begin.

    Raises:
        sqlite3.OperationalError: nothing was changed; the disk is full, for example.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # after some errors, a full disk among them, SQLite has ended it already
            db.execute("ROLLBACK")
        raise


def _as_job(row: sqlite3.Row) -> Job:
    values = dict(row)
    return Job(**(values | {"status": State(values["status"]), "is_sync": bool(values["is_sync"])}))


def _error_output(error: EndpointError, job_id: str) -> bytes:
    """What stands beside an error of the endpoint's own, as beside a worker's."""
    return orjson.dumps({"error_code": error.code, "retryable": error.code.retryable, "job_id": job_id})


def _may_report(job: Job, worker_id: str) -> bool:
    """Whether a worker has the job, or had it last and nobody took it since."""
    return job.worker_id == worker_id and job.status in (State.IN_PROGRESS, State.IN_QUEUE)


def _has_reported(job: Job, worker_id: str) -> bool:
    """Whether the job ended by this worker's own report, which a late heartbeat may still name."""
    return job.worker_id == worker_id and job.status in (State.COMPLETED, State.FAILED)


def _stops(jobs: Iterable[Job]) -> list[Stop]:
    """For each job that runs, its worker."""
    running = ((job.worker_id, job.id) for job in jobs if job.status is State.IN_PROGRESS)
    return [Stop(worker_id=worker_id, job_id=job_id) for worker_id, job_id in running if worker_id]
