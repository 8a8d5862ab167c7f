"""How a caller is told that its job has ended."""

import asyncio
import contextlib
import socket
import sqlite3
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from handler.settings import IntakeSettings
from ops.endpoint.queue import JobQueue
from ops.endpoint.settings import LocalIntakeSettings, ServeSettings
from ops.endpoint.webhook import call_due_webhooks
from tests.end_to_end.webhook_receiver import webhook_receiver

LOCAL = LocalIntakeSettings()


def end_job(queue: JobQueue, url: str, job_id: str = "a") -> None:
    """A job with this webhook has ended."""
    queue.submit(job_id, b'{"input":{"v":1}}', webhook=url)
    queue.take("w")
    queue.finish(job_id, "w", b'{"n":1}')


def call(queue: JobQueue, timeout_seconds: float = 5.0, intake: IntakeSettings = LOCAL) -> int:
    """Call what is due."""
    return asyncio.run(call_due_webhooks(queue, intake, timeout_seconds))


@pytest.mark.parametrize("answer", [201, 204, 302, 400, 404, 500])
def test_only_200_is_success(queue, clock, answer):
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


def test_call_that_may_have_arrived_is_repeated_after_a_crash(tmp_path, clock):
    """At least once: only a noted success ends the calls."""
    with webhook_receiver() as receiver:
        first = JobQueue(tmp_path / "queue.sqlite3", ServeSettings(), clock)
        end_job(first, f"{receiver.url}/hook")
        first.webhook_called = lambda *_, **__: None  # type: ignore[method-assign]  # killed before it was noted
        call(first)
        first.close()
        second = JobQueue(tmp_path / "queue.sqlite3", ServeSettings(), clock)
        assert call(second) == 0, "ten seconds apart, also over a restart"
        clock.advance(10)
        assert call(second) == 1
        assert call(second) == 0
        second.close()
    assert len(receiver.bodies) == 2


def test_unreachable_webhook_is_given_up_and_holds_up_no_other(queue, clock):
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


def test_call_that_cannot_be_noted_is_not_made(queue, clock):
    """On a full disk the bound on the calls would be none; they are made when there is room again."""
    with webhook_receiver() as receiver:
        end_job(queue, f"{receiver.url}/hook")
        queue.db.execute("PRAGMA query_only = ON")
        for _ in range(5):
            with pytest.raises(sqlite3.OperationalError):
                call(queue)
        assert receiver.bodies == []
        queue.db.execute("PRAGMA query_only = OFF")
        assert call(queue) == 1
    assert len(receiver.bodies) == 1


@pytest.mark.parametrize("dripping", [False, True])
def test_call_ends_with_its_time(queue, dripping):
    """Also for a receiver that reads nothing of a large body, or answers a byte now and then."""
    ended = threading.Event()

    def drip(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            while not ended.wait(0.02):
                if dripping:
                    connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = threading.Thread(target=drip, args=(listener,))
        receiver.start()
        queue.submit("a", b'{"input":{}}', webhook=f"http://127.0.0.1:{listener.getsockname()[1]}/")
        queue.take("w")
        queue.finish("a", "w", b'"' + b"x" * (100 if dripping else 20_000_000) + b'"')
        assert call(queue, timeout_seconds=0.2) == 1
        ended.set()
        receiver.join()
    job = queue.get("a")
    assert job.webhook_calls == 1


def test_call_does_not_hold_up_the_end(queue):
    """When the endpoint ends, a call under way is given up, and is due again at the next start."""

    async def main() -> None:
        async with asyncio.timeout(0.1):
            await call_due_webhooks(queue, LOCAL, 1000.0)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        end_job(queue, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        with pytest.raises(TimeoutError):
            asyncio.run(main())  # returns when its threads have ended
    job = queue.get("a")
    assert (job.webhook_calls, job.webhook_due_at is not None) == (0, True)


REFUSED = [
    ("127.0.0.1", {"allow_private_addresses": False}, "not public"),
    ("2130706433", {"allow_private_addresses": False}, "not public"),
    ("inside.example", {"allow_private_addresses": False}, "not public"),
    ("169.254.169.254", {}, "not public"),  # a metadata service, also where private addresses are allowed
    ("127.0.0.1", {"allow_http": False}, ""),
    ("127.0.0.1", {"allowed_hosts": ("a.example",)}, ""),
    ("127.0.0.1", {"allowed_ports": (1,)}, ""),
]


@pytest.mark.parametrize(("host", "rules", "said"), REFUSED, ids=range(len(REFUSED)))
def test_webhooks_obey_what_videos_obey(queue, monkeypatch, host, rules, said):
    """Every rule about a caller's URLs, not only the one about addresses."""
    resolve = socket.getaddrinfo

    def inside(name: str, *more: Any, **others: Any) -> Any:
        return resolve("127.0.0.1" if name == "inside.example" else name, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", inside)
    with webhook_receiver() as receiver, capture_logs() as lines:
        end_job(queue, receiver.url.replace("127.0.0.1", host) + "/hook")
        call(queue, intake=LocalIntakeSettings(**rules))
    assert receiver.bodies == []
    assert lines[0]["outcome"].startswith("refused: ")
    assert ("not public" in lines[0]["outcome"]) == bool(said)


def test_log_names_the_host_only(queue):
    """The path and the query may hold a token."""
    with webhook_receiver() as receiver, capture_logs() as lines:
        end_job(queue, f"{receiver.url}/s3cret-path?token=s3cret", "a")
        end_job(queue, "http://user:s3cret@127.0.0.1:1/s3cret?token=s3cret", "b")
        call(queue)
    assert len(lines) == 2
    assert {line["host"] for line in lines} == {"127.0.0.1"}
    assert "s3cret" not in str(lines)
