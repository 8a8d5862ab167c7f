"""Starts the worker processes, starts them again when they end, ends them with the endpoint. Knows no job."""

import asyncio
import secrets
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from ops.endpoint.database import transaction
from ops.endpoint.processes import birth, end_group, ending_with_parent
from ops.endpoint.registry import Desk, Worker

SHORT_LIFE_SECONDS = 10.0  # a worker that ends sooner, without asking for a job, cannot start
FAILURES_UNTIL_UNHEALTHY = 3
LONGEST_PAUSE_SECONDS = 30.0
POLL_SECONDS = 0.2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCommand:
    """How a worker process is started.

    Attributes:
        arguments: program and arguments.
        environment: from the worker's place (0, 1, ...) and its id to its environment.
    """

    arguments: Sequence[str]
    environment: Callable[[int, str], dict[str, str]]


class Supervisor:
    """Keeps a number of worker processes alive.

    Args:
        desk: knows when a worker must leave, and is told when one has ended.
        command: how to start one.
        num_workers: how many.
        stop_seconds: time a worker has to end after SIGTERM.
    """

    def __init__(self, desk: Desk, command: WorkerCommand, *, num_workers: int, stop_seconds: float) -> None:
        self._desk = desk
        self._command = command
        self._stop_seconds = stop_seconds
        self._num_workers = num_workers

    async def run(self) -> None:
        """Keep the workers alive until the desk closes; returns when the last one has ended."""
        async with asyncio.TaskGroup() as tasks:
            for worker_id, pid, born in self._remembered():
                tasks.create_task(self._await_orphan(worker_id, pid, born))
            for place in range(self._num_workers):
                tasks.create_task(self._keep(place))

    async def _keep(self, place: int) -> None:
        num_failures = 0
        while not self._desk.is_closing:
            worker_id = f"{place}-{secrets.token_hex(4)}"
            started_at = time.monotonic()
            worker = self._desk.expect(worker_id)
            try:
                code = await self._run_once(place, worker)
            except (OSError, subprocess.SubprocessError) as error:  # no memory or room on the disk left, say
                log.error("a worker could not be started", error=str(error))
                code = None
            self._desk.part(worker_id, its_fault=not self._desk.is_closing)
            if self._desk.is_closing:
                return
            log.warning("a worker ended and is started again", worker_id=worker_id, exit_code=code)
            if worker.has_asked or time.monotonic() - started_at > SHORT_LIFE_SECONDS:
                num_failures = 0
                self._desk.unhealthy.discard(place)
                continue
            num_failures += 1
            if num_failures == FAILURES_UNTIL_UNHEALTHY:
                self._desk.unhealthy.add(place)
                log.error("a worker cannot start; its own lines above say why", worker_id=worker_id)
            pause = min(2.0 ** (num_failures - 1), LONGEST_PAUSE_SECONDS)
            await self._until(lambda: self._desk.is_closing, pause)

    async def _run_once(self, place: int, worker: Worker) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command.arguments,
            env=self._command.environment(place, worker.worker_id),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for the endpoint, which ends workers in order
            preexec_fn=ending_with_parent(signal.SIGTERM),
        )
        log.info("started a worker", worker_id=worker.worker_id, pid=process.pid)
        try:
            self._remember(worker.worker_id, process.pid)
            await self._until(lambda: process.returncode is not None or self._must_leave(worker))
            if process.returncode is None:
                process.terminate()
                await self._until(lambda: process.returncode is not None, self._stop_seconds)
        finally:
            end_group(process.pid)  # what is left: a worker that did not obey, or a dead worker's children
            code = await process.wait()
            self._forget(worker.worker_id)
        return code

    async def _await_orphan(self, worker_id: str, pid: int, born: str) -> None:
        """A worker of an endpoint that was killed: it is ending, and may still deliver its result."""
        worker = self._desk.expect(worker_id)
        worker.must_leave.set()
        if birth(pid) == born:
            log.info("waiting for a worker of the endpoint before", worker_id=worker_id, pid=pid)
            await self._until(lambda: birth(pid) != born, self._stop_seconds)
        if birth(pid) in (born, None):  # never a later process that was given the same number
            end_group(pid)
        self._desk.part(worker_id)
        self._forget(worker_id)

    def _must_leave(self, worker: Worker) -> bool:
        return worker.must_leave.is_set() or self._desk.is_closing

    async def _until(self, is_true: Callable[[], bool], seconds: float = float("inf")) -> None:
        deadline = time.monotonic() + seconds
        while not is_true() and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)

    # Noted beside the queue, so that an endpoint that starts after a crash knows them

    def _remembered(self) -> list[tuple[str, int, str]]:
        rows = self._desk.queue.db.execute("SELECT id, pid, born FROM workers").fetchall()
        return [(row["id"], row["pid"], row["born"]) for row in rows]

    def _remember(self, worker_id: str, pid: int) -> None:
        self._note("INSERT INTO workers VALUES (?, ?, ?)", worker_id, pid, birth(pid) or "")

    def _forget(self, worker_id: str) -> None:
        self._note("DELETE FROM workers WHERE id = ?", worker_id)

    def _note(self, statement: str, *values: str | int) -> None:
        """A note that a full disk does not take is left out: the worker itself matters more."""
        try:
            with transaction(self._desk.queue.db) as db:
                db.execute(statement, values)
        except sqlite3.OperationalError as error:
            log.error("a worker could not be noted beside the queue", error=str(error))
