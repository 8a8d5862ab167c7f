"""A queue, and an endpoint in the test's own process with clients for both of its sides; async tests."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from handler.settings import IntakeSettings
from ops.endpoint.queue import JobQueue
from ops.endpoint.registry import WorkerRegistry
from ops.endpoint.serve import listening
from ops.endpoint.settings import LocalIntakeSettings, ServeSettings

WORKER_KEY = "worker-key"


class Clock:
    """Seconds since the epoch, as said."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


SETTINGS = ServeSettings(lease_seconds=5, stop_seconds=0.2, hold_seconds=0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A listening endpoint."""

    url: str  # its base
    registry: WorkerRegistry  # for a look behind it
    caller: aiohttp.ClientSession  # without a key
    worker: aiohttp.ClientSession  # with the worker's key, sent as the SDK sends it

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """A caller's request: status code and JSON."""
        async with self.caller.request(method, f"{self.url}/{path}", **more) as reply:
            return reply.status, await reply.json()

    async def run(self, request: dict[str, Any] | None = None) -> str:
        """Submit; the job's id."""
        code, document = await self.ask("POST", "run", json=request or {"input": {}})
        assert code == 200, document
        job_id: str = document["id"]
        return job_id

    async def status(self, job_id: str) -> dict[str, Any]:
        """A job's document."""
        _, document = await self.ask("GET", f"status/{job_id}")
        assert isinstance(document, dict)
        return document

    async def take(self, worker_id: str, query: str = "job_in_progress=1") -> tuple[int, Any]:
        """A worker asks for a job."""
        async with self.worker.get(f"{self.url}/job-take/{worker_id}?gpu=x&{query}") as reply:
            return reply.status, await reply.json() if reply.status == 200 else None

    async def run_and_take(self, worker_id: str = "w") -> str:
        """Submit a job and have a worker take it; the job's id."""
        job_id = await self.run()
        assert (await self.take(worker_id))[1]["id"] == job_id
        return job_id

    async def done(self, worker_id: str, job_id: str, body: Any) -> int:
        """A worker posts a result or progress, the way the SDK does; bytes, text and files go as they are."""
        data = json.dumps(body) if isinstance(body, dict) else body
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url = f"{self.url}/job-done/{worker_id}/{job_id}?gpu=x&isStream=false"
        async with self.worker.post(url, data=data, headers=headers) as reply:
            return reply.status

    async def ping(self, worker_id: str, job_ids: str = "") -> None:
        """A worker's heartbeat."""
        async with self.worker.get(f"{self.url}/ping/{worker_id}?gpu=x&job_id={job_ids}") as reply:
            assert reply.status == 200

    async def stops(self, worker_id: str) -> list[str]:
        """What a worker is told to stop."""
        async with self.worker.get(f"{self.url}/job-stop/{worker_id}?gpu=x") as reply:
            return (await reply.json())["jobsToStop"] if reply.status == 200 else []


@asynccontextmanager
async def running(
    folder: Path,
    settings: ServeSettings = SETTINGS,
    intake: IntakeSettings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Running]:
    """Listen inside the block; nothing happens by itself: the test calls `registry.sweep`."""
    queue = JobQueue(folder / "queue.sqlite3", settings)
    registry = WorkerRegistry(queue, settings, clock)
    intake = intake or LocalIntakeSettings()
    async with (
        listening(registry, settings, intake, worker_key=WORKER_KEY, host="127.0.0.1", port=0) as url,
        aiohttp.ClientSession(connector=_connections()) as caller,
        aiohttp.ClientSession(connector=_connections(), headers={"Authorization": WORKER_KEY}) as worker,
    ):
        yield Running(url=url, registry=registry, caller=caller, worker=worker)
    queue.close()


def _connections() -> aiohttp.TCPConnector:
    """One for each request: an idle one may be closed by the endpoint just when it is used again."""
    return aiohttp.TCPConnector(force_close=True)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The endpoint is aiohttp's."""
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    """Time as the test says."""
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[JobQueue]:
    """A queue in a new file, with short limits."""
    settings = ServeSettings(
        lease_seconds=10, execution_timeout_seconds=100, ttl_seconds=1000, result_seconds=200
    )
    queue = JobQueue(tmp_path / "queue.sqlite3", settings, clock)
    yield queue
    queue.close()


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Running]:
    """An endpoint with quick settings."""
    async with running(tmp_path) as endpoint:
        yield endpoint
