"""A queue, and an endpoint that listens; async tests run by anyio's pytest plugin."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ops.endpoint.queue import JobQueue
from ops.endpoint.settings import ServeSettings
from tests.ops.endpoint.running import Clock, Running, running


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
