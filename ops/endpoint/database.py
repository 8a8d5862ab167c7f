"""The queue's file: its tables, how it is opened, its transactions. Knows no state of a job."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.endpoint.jobs import Job, State

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
CREATE TABLE chunks (
    seq INTEGER PRIMARY KEY, job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, body BLOB NOT NULL
);
CREATE INDEX chunks_by_job ON chunks (job_id, seq);
CREATE TABLE totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO totals VALUES ('completed', 0), ('failed', 0), ('retried', 0);
CREATE TABLE workers (id TEXT PRIMARY KEY, pid INTEGER NOT NULL, born TEXT NOT NULL);
"""


class QueueUnusable(RuntimeError):
    """The queue file cannot be used by this version."""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, readable by its owner only (requests hold presigned URLs); made if it is not there.

    Raises:
        QueueUnusable: it is not a queue, or one of another version.
    """
    path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None)
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # an accepted job is on the disk
        db.execute("PRAGMA foreign_keys = ON")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    except sqlite3.DatabaseError as error:
        db.close()
        raise QueueUnusable(f"{path.name} cannot be used as a queue: {error}") from error
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise QueueUnusable(f"{path.name} was written by another version of this program")
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of the block or nothing of it; after an error the next one can begin.

    Raises:
        sqlite3.OperationalError: the disk is full, say; nothing was changed.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk has SQLite end it by itself
            db.execute("ROLLBACK")
        raise


def one_job(cursor: sqlite3.Cursor) -> Job:
    """The job of a statement that returns exactly one row."""
    (row,) = cursor.fetchall()
    return as_job(row)


def as_job(row: sqlite3.Row) -> Job:
    """A row of the table as a record."""
    values = dict(row)
    values |= {"status": State(values["status"]), "is_sync": bool(values["is_sync"])}
    return Job(**values)
