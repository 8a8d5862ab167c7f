"""The table of jobs in SQLite: each job's state, what is kept of it, and the documents that others get."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ops.endpoint import CannotServe

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

    def may_report(self, worker_id: str) -> bool:
        """Whether a worker has the job, or had it last and no other took it since."""
        return self.worker_id == worker_id and self.status in (State.IN_PROGRESS, State.IN_QUEUE)

    def has_reported(self, worker_id: str) -> bool:
        """Whether the job ended by this worker's own report, which a late heartbeat may still name."""
        return self.worker_id == worker_id and self.status in (State.COMPLETED, State.FAILED)

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


def as_job(row: sqlite3.Row) -> Job:
    """A row of the table."""
    return Job(**dict(row) | {"status": State(row["status"]), "is_sync": bool(row["is_sync"])})


class Stop(NamedTuple):
    """A worker that must stop working on a job."""

    worker_id: str
    job_id: str


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
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError("it was written by another version of this program")
    except sqlite3.DatabaseError as error:
        db.close()
        raise CannotServe(f"{path.name} cannot be used as a queue: {error}") from error
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
