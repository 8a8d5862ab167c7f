"""How a caller is told that its job has ended."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from handler.local.queue import JobQueue
from handler.local.webhook import call_due_webhooks
from handler.settings import ServeSettings
from tests.end_to_end.webhook_receiver import webhook_receiver
from tests.handler.local.clock import Clock

SETTINGS = ServeSettings(webhook_attempts=3, webhook_interval_seconds=10)


@pytest.fixture
def clock() -> Clock:
    """Time as the test says."""
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[JobQueue]:
    """A queue in a new file."""
    queue = JobQueue(tmp_path / "queue.sqlite3", SETTINGS, clock)
    yield queue
    queue.close()


def end_job(queue: JobQueue, url: str, job_id: str = "a") -> None:
    """A job with this webhook has ended."""
    queue.submit(job_id, b'{"input":{"v":1}}', webhook=url)
    queue.take("w")
    queue.finish(job_id, "w", b'{"n":1}')


def call(queue: JobQueue, timeout_seconds: float = 5.0) -> int:
    """Call what is due."""

    async def main() -> int:
        async with aiohttp.ClientSession() as session:
            return await call_due_webhooks(queue, session, timeout_seconds)

    return asyncio.run(main())


@pytest.mark.parametrize("answer", [201, 204, 302, 400, 404, 500])
def test_only_200_is_success(queue: JobQueue, clock: Clock, answer: int) -> None:
    """As RunPod documents it; a redirect is not followed. Ten seconds later it is called again."""
    with webhook_receiver(answers=[answer]) as receiver:
        end_job(queue, f"{receiver.url}/hook")
        assert call(queue) == 1
        assert call(queue) == 0
        clock.advance(10)
        assert call(queue) == 1
        clock.advance(10)
        assert call(queue) == 0
    assert receiver.paths == ["/hook", "/hook"]
    assert receiver.bodies[0] == receiver.bodies[1]


def test_call_that_may_have_arrived_is_repeated_after_a_crash(tmp_path: Path, clock: Clock) -> None:
    """At least once: only a noted success ends the calls."""
    with webhook_receiver() as receiver:
        first = JobQueue(tmp_path / "queue.sqlite3", SETTINGS, clock)
        end_job(first, f"{receiver.url}/hook")
        first.webhook_called = lambda *_, **__: None  # type: ignore[method-assign]  # killed before it was noted
        call(first)
        first.close()
        second = JobQueue(tmp_path / "queue.sqlite3", SETTINGS, clock)
        assert call(second) == 1
        assert call(second) == 0
        second.close()
    assert len(receiver.bodies) == 2


def test_unreachable_webhook_is_given_up_and_holds_up_no_other(queue: JobQueue, clock: Clock) -> None:
    """Nobody listens, a host that is none, a port out of range: three tries each, no exception."""
    with webhook_receiver() as receiver:
        for index, url in enumerate(["http://127.0.0.1:1/x", "http://no-such.invalid/", "http://a:99999/"]):
            end_job(queue, url, f"bad-{index}")
        end_job(queue, f"{receiver.url}/hook", "good")
        assert call(queue) == 4
        assert [body["id"] for body in receiver.bodies] == ["good"]
        for expected in (3, 3, 0):
            clock.advance(10)
            assert call(queue) == expected


def test_silent_webhook_costs_its_timeout_only(queue: JobQueue) -> None:
    """A receiver that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        end_job(queue, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert call(queue, timeout_seconds=0.1) == 1
    (job,) = queue._select("id = 'a'")
    assert (job.webhook_calls, job.webhook_due_at is not None) == (1, True)


def test_log_names_the_host_only(queue: JobQueue) -> None:
    """The path and the query may hold a token."""
    with webhook_receiver() as receiver, capture_logs() as lines:
        end_job(queue, f"{receiver.url}/s3cret-path?token=s3cret", "a")
        end_job(queue, "http://user:s3cret@127.0.0.1:1/s3cret?token=s3cret", "b")
        call(queue)
    assert len(lines) == 2
    assert {line["host"] for line in lines} == {"127.0.0.1"}
    assert "s3cret" not in str(lines)
