"""How worker processes are kept alive and ended; the workers here are shell scripts."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from handler.settings import ServeSettings
from ops.endpoint import supervise
from ops.endpoint.processes import birth
from ops.endpoint.queue import JobQueue
from ops.endpoint.registry import Desk
from ops.endpoint.supervise import Supervisor, WorkerCommand
from tests.end_to_end.endpoint_process import wait_until


def supervised(
    folder: Path, script: str, during: Callable[[Desk], bool], *, stop_seconds: float = 5.0
) -> tuple[Desk, list[int]]:
    """Keep one worker alive until `during` is true, then close; the desk, and each worker's process id."""
    pids = folder / "pids"
    pids.touch()
    queue = JobQueue(folder / "queue.sqlite3", ServeSettings())
    command = WorkerCommand(
        arguments=["/bin/sh", "-c", f"echo $$ >> {pids}; {script}"],
        environment=lambda _, worker_id: {"PATH": os.defpath, "WORKER": worker_id},
    )

    async def main() -> Desk:
        desk = Desk(queue, lease_seconds=1, stop_seconds=1)
        supervisor = Supervisor(desk, command, num_workers=1, stop_seconds=stop_seconds)
        task = asyncio.create_task(supervisor.run())
        while not (pids.read_text() and during(desk)):
            await asyncio.sleep(0.02)
            assert not task.done()
        desk.is_closing = True
        await task
        return desk

    try:
        return asyncio.run(main()), [int(line) for line in pids.read_text().split()]
    finally:
        assert queue.db.execute("SELECT COUNT(*) FROM workers").fetchone()[0] == 0, "none is remembered"
        queue.close()


def group_is_gone(pid: int) -> bool:
    """Whether no process of this group lives; one that has ended may still wait to be reaped."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(group) == pid and state not in "ZX":
                return False
    return True


def test_worker_that_cannot_start_is_unhealthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, with pauses, and /health says so."""
    monkeypatch.setattr(supervise, "LONGEST_PAUSE_SECONDS", 0.01)
    desk, pids = supervised(tmp_path, "exit 3", lambda desk: bool(desk.unhealthy))
    assert desk.unhealthy == {0}
    assert len(pids) >= supervise.FAILURES_UNTIL_UNHEALTHY


def test_pause_between_starts_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A worker that waits to be started again is not waited for."""
    start = time.monotonic()
    supervised(tmp_path, "exit 3", lambda desk: time.monotonic() - start > 0.5)
    assert time.monotonic() - start < 30


def test_end_reaches_the_children_of_a_worker(tmp_path: Path) -> None:
    """The SDK's heartbeat process, a decoder: nothing of a worker outlives it."""
    _, pids = supervised(tmp_path, "sleep 600 & sleep 600", lambda _: True)
    wait_until(lambda: all(group_is_gone(pid) for pid in pids))


def test_worker_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """After the time it had."""
    script = "trap '' TERM; touch ready; while :; do sleep 0.05; done".replace(
        "ready", str(tmp_path / "ready")
    )
    _, pids = supervised(tmp_path, script, lambda _: (tmp_path / "ready").exists(), stop_seconds=0.3)
    wait_until(lambda: all(group_is_gone(pid) for pid in pids))


def test_dismissed_worker_is_replaced(tmp_path: Path) -> None:
    """One that asked to be replaced is ended and another started at once."""
    seen: set[str] = set()

    def dismiss_the_first(desk: Desk) -> bool:
        seen.update(desk._workers)
        if len(seen) == 1:
            for worker in desk._workers.values():
                worker.has_asked = True
            desk.dismiss(next(iter(seen)))
        return len(seen) == 2

    supervised(tmp_path, "sleep 600", dismiss_the_first)
    assert len(seen) == 2


def test_left_over_worker_of_a_killed_endpoint_is_ended(tmp_path: Path) -> None:
    """Known by its number and birth; a later process that got the number is left alone."""
    queue = JobQueue(tmp_path / "queue.sqlite3", ServeSettings(stop_seconds=0.2))

    async def main() -> None:
        script = "trap '' TERM; while :; do sleep 0.05; done"
        left = [
            await asyncio.create_subprocess_exec("/bin/sh", "-c", script, start_new_session=True)
            for _ in "ab"
        ]
        for process, born in zip(left, [birth(left[0].pid), "1"], strict=True):
            queue.db.execute("INSERT INTO workers VALUES (?, ?, ?)", (f"w{process.pid}", process.pid, born))
        desk = Desk(queue, lease_seconds=1, stop_seconds=1)
        command = WorkerCommand(arguments=["/bin/true"], environment=lambda *_: {})
        await Supervisor(desk, command, num_workers=0, stop_seconds=0.3).run()
        assert await left[0].wait() == -signal.SIGKILL
        assert left[1].returncode is None
        left[1].kill()
        await left[1].wait()
        assert queue.db.execute("SELECT COUNT(*) FROM workers").fetchone()[0] == 0

    asyncio.run(main())
    queue.close()
