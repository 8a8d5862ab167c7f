"""The disk is full for a while: the endpoint says so, loses nothing, and goes on when there is room."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ops.endpoint import CannotServe
from ops.endpoint.jobs import State, open_database, transaction
from ops.endpoint.queue import JobQueue
from ops.endpoint.registry import WorkerRegistry
from ops.endpoint.serve import ServeOptions, run
from ops.endpoint.settings import ServeSettings


@contextmanager
def no_room(db: sqlite3.Connection, how: str = "full") -> Iterator[None]:
    """The file cannot grow, or cannot be written at all."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}" if how == "full" else "PRAGMA query_only = ON")
    try:
        yield
    finally:
        db.execute("PRAGMA max_page_count = 1000000")
        db.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("INSERT INTO notes VALUES ('no such job')", "constraint failed"),
        ("ROLLBACK", "cannot commit"),
    ],
    ids=["refused by COMMIT", "ended by SQLite"],
)
def test_transaction_that_cannot_be_committed_is_over(tmp_path, statement, error):
    """The error of COMMIT comes out, not that of a second ROLLBACK, and the next transaction begins."""
    with contextlib.closing(open_database(tmp_path / "q")) as db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("CREATE TABLE notes (job_id REFERENCES jobs (id) DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(sqlite3.Error, match=f"(?i){error}"), transaction(db):
            db.execute(statement)  # SQLite itself rolls back after some errors, a full disk among them
        with transaction(db):
            assert db.execute("SELECT COUNT(*) FROM notes").fetchone()[0] == 0


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["full", "read-only"])
async def test_caller_is_told_and_nothing_is_lost(endpoint, how):
    """503 in words for what cannot be stored; what was accepted is there, and the rest works afterwards."""
    first = await endpoint.run({"input": {"x": 1}})
    big = {"input": {"x": "x" * 100_000}}
    with no_room(endpoint.registry.queue.db, how):
        for _ in range(3):
            code, document = await endpoint.ask("POST", "run", json=big)
            assert (code, document) == (503, {"error": "the queue cannot be written now"})
        assert (await endpoint.status(first))["status"] == "IN_QUEUE"
        assert (await endpoint.ask("GET", "health"))[1]["jobs"]["inQueue"] == 1
    second = await endpoint.run(big)
    assert [(await endpoint.take("w"))[1]["id"] for _ in range(2)] == [first, second]


@pytest.mark.anyio
async def test_result_that_cannot_be_stored_is_asked_for_again(endpoint):
    """The worker gets a 5xx, on which the SDK tries again; a second try with room is kept."""
    job_id = await endpoint.run_and_take()
    with no_room(endpoint.registry.queue.db):
        assert await endpoint.done("w", job_id, {"output": "x" * 100_000}) == 503
    assert (await endpoint.status(job_id))["status"] == "IN_PROGRESS"
    assert await endpoint.done("w", job_id, {"output": "x" * 100_000}) == 200
    assert (await endpoint.status(job_id))["status"] == "COMPLETED"


@pytest.mark.parametrize("its_fault", [True, False])
def test_jobs_of_a_worker_that_ended_go_back_later(queue, its_fault):
    """Once, with the count they would have had, as soon as the clock finds room."""
    registry = WorkerRegistry(queue, ServeSettings())
    registry.add("w")
    queue.submit("a", b'{"input":{}}')
    queue.take("w")
    with no_room(queue.db, "read-only"):
        registry.ended("w", its_fault=its_fault)
        with pytest.raises(sqlite3.OperationalError):
            registry.sweep()
        assert registry.heard("w") is None
    for _ in range(2):
        registry.sweep()
        job = queue.get("a")
        assert job is not None
        assert (job.status, job.retries, job.attempts) == (State.IN_QUEUE, 1, int(its_fault))


def test_start_without_room_is_told(tmp_path, monkeypatch):
    """A sentence for the terminal, no traceback."""

    def full(_: JobQueue) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(JobQueue, "renew_leases", full)
    monkeypatch.setenv("BUCKET_NAME", "elsewhere")
    with pytest.raises(CannotServe, match=r"queue .* cannot be written: database or disk is full"):
        run(ServeOptions(data=tmp_path, port=0, num_workers=0), ServeSettings())
