"""The disk is full for a while: the endpoint says so, loses nothing, and goes on when there is room."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handler.settings import ServeSettings
from ops.endpoint import supervise
from ops.endpoint.database import open_database, transaction
from ops.endpoint.jobs import State
from ops.endpoint.queue import JobQueue
from ops.endpoint.registry import Desk
from ops.endpoint.serve import CannotServe, ServeOptions, run
from ops.endpoint.supervise import Supervisor, WorkerCommand
from tests.ops.endpoint.running import running


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


def test_transaction_that_cannot_be_committed_is_over(tmp_path: Path) -> None:
    """An error of COMMIT itself leaves nothing open: the next transaction begins."""
    db = open_database(tmp_path / "q")

    def write() -> None:
        with transaction(db):
            db.execute("PRAGMA defer_foreign_keys = ON")
            db.execute("INSERT INTO chunks (job_id, body) VALUES ('no such job', x'00')")

    with pytest.raises(sqlite3.IntegrityError):
        write()
    with transaction(db):
        assert db.execute("SELECT COUNT(*) FROM chunks").fetchone()[0] == 0
    db.close()


def test_transaction_that_sqlite_ended_keeps_its_error(tmp_path: Path) -> None:
    """The disk's own words come out, not those of a second ROLLBACK."""
    db = open_database(tmp_path / "q")

    def write() -> None:
        with transaction(db):
            db.execute("ROLLBACK")  # as SQLite does by itself after some errors
            raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(sqlite3.OperationalError, match="full"):
        write()
    with transaction(db):
        pass
    db.close()


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_caller_is_told_and_nothing_is_lost(tmp_path: Path, how: str) -> None:
    """503 in words for what cannot be stored; what was accepted is there, and the rest works afterwards."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            first = await endpoint.run({"input": {"x": 1}})
            big = {"input": {"x": "x" * 100_000}}
            with no_room(endpoint.desk.queue.db, how):
                for _ in range(3):
                    code, document = await endpoint.ask("POST", "run", json=big)
                    assert (code, document) == (503, {"error": "the queue cannot be written now"})
                assert (await endpoint.status(first))["status"] == "IN_QUEUE"
                assert (await endpoint.ask("GET", "health"))[1]["jobs"]["inQueue"] == 1
            second = await endpoint.run(big)
            assert [(await endpoint.take("w"))[1]["id"] for _ in range(2)] == [first, second]

    asyncio.run(main())


def test_result_that_cannot_be_stored_is_asked_for_again(tmp_path: Path) -> None:
    """The worker gets a 5xx, on which the SDK tries again; a second try with room is kept."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w")
            with no_room(endpoint.desk.queue.db):
                assert await endpoint.done("w", job_id, {"output": "x" * 100_000}) == 503
            assert (await endpoint.status(job_id))["status"] == "IN_PROGRESS"
            assert await endpoint.done("w", job_id, {"output": "x" * 100_000}) == 200
            assert (await endpoint.status(job_id))["status"] == "COMPLETED"

    asyncio.run(main())


@pytest.mark.parametrize("its_fault", [True, False])
def test_jobs_of_a_worker_that_ended_go_back_later(tmp_path: Path, its_fault: bool) -> None:
    """Once, with the count they would have had, as soon as the clock finds room."""
    queue = JobQueue(tmp_path / "q", ServeSettings())
    desk = Desk(queue, lease_seconds=30, stop_seconds=1)
    desk.expect("w")
    queue.submit("a", b'{"input":{}}')
    queue.take("w")
    with no_room(queue.db, "read-only"):
        desk.part("w", its_fault=its_fault)
        with pytest.raises(sqlite3.OperationalError):
            desk.sweep()
        assert desk.hear("w") is None
    for _ in range(2):
        desk.sweep()
        (job,) = queue._select("id = 'a'")
        assert (job.status, job.retries, job.attempts) == (State.IN_QUEUE, 1, int(its_fault))
    queue.close()


def test_workers_are_kept_alive_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends meanwhile is started again, and the endpoint ends in order."""
    monkeypatch.setattr(supervise, "LONGEST_PAUSE_SECONDS", 0.01)
    queue = JobQueue(tmp_path / "q", ServeSettings())
    starts = tmp_path / "starts"
    command = WorkerCommand(
        arguments=["/bin/sh", "-c", f"echo x >> {starts}; exit 3"], environment=lambda *_: {}
    )

    async def main() -> None:
        desk = Desk(queue, lease_seconds=30, stop_seconds=1)
        task = asyncio.create_task(Supervisor(desk, command, num_workers=1, stop_seconds=5).run())
        with no_room(queue.db, "read-only"):
            async with asyncio.timeout(60):
                while not (starts.exists() and len(starts.read_text().split()) >= 2):
                    assert not task.done()
                    await asyncio.sleep(0.02)
            desk.is_closing = True
            await task

    asyncio.run(main())
    queue.close()


def test_start_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence for the terminal, no traceback."""

    def full(_: JobQueue) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(JobQueue, "renew_leases", full)
    monkeypatch.setenv("BUCKET_NAME", "elsewhere")
    with pytest.raises(CannotServe, match=r"queue .* cannot be written: database or disk is full"):
        run(ServeOptions(data=tmp_path, port=0), ServeSettings())
