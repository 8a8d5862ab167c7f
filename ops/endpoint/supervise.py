"""Starts the worker processes, starts them again when they end, and ends them with the endpoint."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from handler.process import end_with_parent
from ops.endpoint.jobs import transaction
from ops.endpoint.registry import Worker, WorkerRegistry
from ops.endpoint.settings import ENDPOINT_ID, LocalIntakeSettings, ServeSettings

SHORT_LIFE_SECONDS = 10.0  # a worker that ends sooner, without asking for a job, cannot start
FAILURES_UNTIL_UNHEALTHY = 3
LONGEST_PAUSE_SECONDS = 30.0
POLL_SECONDS = 0.2
WORKER_LIMIT_MARGIN_SECONDS = 60.0  # a worker ends a job itself, with its own error, before we do
SHORTEST_BUDGET_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """Keeps a number of worker processes alive."""

    registry: WorkerRegistry  # knows when a worker must leave, and is told when one has ended
    arguments: Sequence[str]  # program and arguments of a worker
    environment: Mapping[str, str]  # of each worker, which is given its id beside it
    num_workers: int
    gpus: Sequence[str] = ()  # dealt out to the workers in turn; if empty, each sees all
    stop_seconds: float  # time a worker has to end after SIGTERM

    async def run(self) -> None:
        """Keep the workers alive until the registry closes; returns when the last one has ended."""
        async with asyncio.TaskGroup() as tasks:
            # Workers are noted beside the queue, so that an endpoint that starts after a crash knows them.
            for row in self.registry.queue.db.execute("SELECT id, pid, born FROM workers").fetchall():
                tasks.create_task(self._await_orphan(*row))
            for place in range(self.num_workers):
                tasks.create_task(self._keep(place))

    async def _keep(self, place: int) -> None:
        num_failures = 0
        while not self.registry.is_closing:
            worker_id = f"{place}-{secrets.token_hex(4)}"
            started_at = time.monotonic()
            worker = self.registry.add(worker_id)
            try:
                code = await self._run_once(place, worker)
            except (OSError, subprocess.SubprocessError) as error:  # no memory, for example
                log.error("a worker could not be started", error=str(error))
                code = None
            self.registry.ended(worker_id, its_fault=not self.registry.is_closing)
            if self.registry.is_closing:
                return
            log.warning("a worker ended and is started again", worker_id=worker_id, exit_code=code)
            if worker.has_asked or time.monotonic() - started_at > SHORT_LIFE_SECONDS:
                num_failures = 0
                self.registry.unhealthy.discard(place)
                continue
            num_failures += 1
            if num_failures == FAILURES_UNTIL_UNHEALTHY:
                self.registry.unhealthy.add(place)
                log.error("a worker cannot start; its own lines above say why", worker_id=worker_id)
            pause = min(2.0 ** (num_failures - 1), LONGEST_PAUSE_SECONDS)
            await self._until(lambda: self.registry.is_closing, pause)

    async def _run_once(self, place: int, worker: Worker) -> int:
        own = {"RUNPOD_POD_ID": worker.worker_id}
        if self.gpus:
            own["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        process = await asyncio.create_subprocess_exec(
            *self.arguments,
            env={**self.environment, **own},
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is for the endpoint, which ends workers in order
            preexec_fn=partial(end_with_parent, signal.SIGTERM),
        )
        log.info("started a worker", worker_id=worker.worker_id, pid=process.pid)
        try:
            values = (worker.worker_id, process.pid, birth(process.pid) or "")
            self._note("INSERT INTO workers VALUES (?, ?, ?)", *values)
            await self._until(
                lambda: process.returncode is not None or worker.must_leave or self.registry.is_closing
            )
            if process.returncode is None:
                process.terminate()
                await self._until(lambda: process.returncode is not None, self.stop_seconds)
        finally:
            end_group(process.pid)  # what is left: a worker that did not obey, or a dead worker's children
            code = await process.wait()
            self._note("DELETE FROM workers WHERE id = ?", worker.worker_id)
        return code

    async def _await_orphan(self, worker_id: str, pid: int, born: str) -> None:
        """A worker of an endpoint that was killed: it is ending, and may still deliver its result."""
        self.registry.add(worker_id).must_leave = True
        if birth(pid) == born:
            log.info("waiting for a worker of the endpoint before", worker_id=worker_id, pid=pid)
            await self._until(lambda: birth(pid) != born, self.stop_seconds)
        if birth(pid) in (born, None):  # never a later process that was given the same number
            end_group(pid)
        self.registry.ended(worker_id)
        self._note("DELETE FROM workers WHERE id = ?", worker_id)

    async def _until(self, is_true: Callable[[], bool], seconds: float = float("inf")) -> None:
        deadline = time.monotonic() + seconds
        while not is_true() and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)

    def _note(self, statement: str, *values: str | int) -> None:
        """A note that a full disk does not take is left out: the worker itself matters more."""
        try:
            with transaction(self.registry.queue.db) as db:
                db.execute(statement, values)
        except sqlite3.OperationalError as error:
            log.error("a worker could not be noted beside the queue", error=str(error))


def worker_environment(
    given: Mapping[str, str], settings: ServeSettings, *, base_url: str, key: str, data: Path
) -> dict[str, str]:
    """What all workers of the endpoint have in their environment.

    Args:
        given: the endpoint's own environment and what `serve` was told; the worker's settings in it stay.
        settings: the endpoint's time limit and heartbeats.
        base_url: of the endpoint, as a worker reaches it.
        key: what a worker must send to be let in.
        data: the endpoint's folder; a worker's temporary files and home lie in it.
    """
    kept = {name: value for name, value in given.items() if not name.startswith(("RUNPOD_", "SERVE_"))}
    cache = Path(given.get("HOME", data)) / ".cache"
    budget = settings.execution_timeout_seconds - WORKER_LIMIT_MARGIN_SECONDS
    intake = LocalIntakeSettings.model_construct()  # its defaults alone: what is set is kept below
    defaults = {
        "MODELS": "auto",  # a worker's own default is to insist on the official ones
        "VIDEO_ALLOW_HTTP": json.dumps(intake.allow_http),
        "VIDEO_ALLOW_PRIVATE_ADDRESSES": json.dumps(intake.allow_private_addresses),
        "VIDEO_ALLOWED_PORTS": json.dumps(intake.allowed_ports),
        "WORKER_SCRATCH": str(data / "scratch"),
        "WORKER_TIME_BUDGET_SECONDS": f"{max(budget, SHORTEST_BUDGET_SECONDS):g}",
        # The home below is not the user's; what lies in the user's caches is still found.
        "XDG_CACHE_HOME": str(cache),
        "HF_HOME": str(cache / "huggingface"),
        "MODEL_STORE": str(cache / "hmr2-phalp"),
    }
    # The SDK appends `&...` to these, so each has a query already; it fills in $ID and $RUNPOD_POD_ID.
    platform = {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base_url}/job-take/$ID?gpu=local",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base_url}/job-done/$RUNPOD_POD_ID/$ID?gpu=local",
        "RUNPOD_WEBHOOK_PING": f"{base_url}/ping/$RUNPOD_POD_ID?gpu=local",
        "RUNPOD_PING_INTERVAL": str(settings.ping_seconds * 1000),
        "RUNPOD_AI_API_KEY": key,
        "RUNPOD_ENDPOINT_ID": ENDPOINT_ID,
        "RUNPOD_LOG_LEVEL": "INFO",  # at DEBUG the SDK prints requests, and with them presigned URLs
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "HOME": str(data / "home"),  # a key saved there by runpod's own command line would replace ours
    }
    return {**defaults, **kept, **platform}


def birth(pid: int) -> str | None:
    """When a living process was started, in ticks since boot.

    Unlike the date that psutil gives, it stays the same when the clock is set. None if no such process
    runs (a zombie does not), or without /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[19]  # fields 3 and 22 of proc(5)
    return None if state in "ZX" else started


def end_group(pid: int, signum: signal.Signals = signal.SIGKILL) -> None:
    """Signal a child and its own children, which share its process group (`start_new_session`)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)
