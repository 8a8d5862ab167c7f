"""The classes of the Python client, against servers and callers that misbehave."""

import json
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from examples.python_client import (
    ADVICE,
    CALLS,
    WEBHOOK_BYTES,
    Endpoint,
    EndpointError,
    JobFailed,
    WebhookReceiver,
    run_job,
)
from handler.errors import ErrorCode
from tests.end_to_end.scripted_endpoint import Answer, scripted_endpoint

INPUT = {"video_url": "https://example.com/clip.mp4"}
RUNNING: dict[str, Any] = {"id": "j", "status": "IN_PROGRESS"}
DONE: dict[str, Any] = {"id": "j", "status": "COMPLETED", "output": {"status": "completed"}}
WAITING: dict[str, Any] = {"id": "j", "status": "IN_QUEUE"}


def failure(code: str, *, retryable: bool) -> dict[str, Any]:
    """The status document of a job that failed."""
    output = {"error_code": code, "retryable": retryable, "job_id": "j"}
    return {"id": "j", "status": "FAILED", "error": f"{code}: why", "output": output}


def statuses(*answers: Answer, **options: Any) -> tuple[list[str], list[str]]:
    """What `follow` gives, and the calls that it took."""
    with scripted_endpoint(*answers) as server:
        followed = Endpoint(server.url, retry_seconds=0).follow("j", every_seconds=0, **options)
        return [document["status"] for document in followed], server.calls


def test_follow_survives_failed_polls() -> None:
    """Refused, cut off, told to wait: the poll is made again."""
    seen, calls = statuses(WAITING, 503, 500, None, 429, RUNNING, None, DONE)

    assert seen == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert len(calls) == 8


@pytest.mark.parametrize("status", [400, 401, 404])
def test_follow_ends_at_a_refusal_that_stays(status: int) -> None:
    """A wrong key, or a job that was deleted, is not asked for again."""
    with scripted_endpoint(RUNNING, status) as server:
        followed = Endpoint(server.url, retry_seconds=0).follow("j", every_seconds=0)
        with pytest.raises(EndpointError, match=f"answered {status}: told to refuse") as raised:
            list(followed)

    assert not raised.value.retryable
    assert len(server.calls) == 2


def test_follow_gives_up() -> None:
    """After so many failed polls in a row, and when the time is up."""
    with scripted_endpoint(503) as server:
        with pytest.raises(EndpointError, match="answered 503"):
            list(Endpoint(server.url, retry_seconds=0).follow("j"))
        assert len(server.calls) == CALLS
    with pytest.raises(EndpointError, match="job j has not ended in 0 seconds; it goes on") as raised:
        statuses(RUNNING, timeout_seconds=0)
    assert raised.value.retryable


@pytest.mark.parametrize(
    ("answers", "num_calls"),
    [([429, 503, WAITING], 3), ([None, WAITING], 1), ([500, WAITING], 1), ([400, WAITING], 1)],
    ids=["not now", "answer lost", "perhaps queued", "wrong"],
)
def test_submit_never_queues_twice(answers: list[Answer], num_calls: int) -> None:
    """It is sent again only if it certainly was not taken."""
    with scripted_endpoint(*answers) as server:
        endpoint = Endpoint(server.url, retry_seconds=0)
        if num_calls == 3:
            assert endpoint.submit(INPUT) == "j"
        else:
            with pytest.raises(EndpointError):
                endpoint.submit(INPUT)

    assert server.calls == ["POST run"] * num_calls


def test_job_is_retried_only_if_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure that may pass is sent again under its id; after three, or one that stays, it is told."""
    passing = failure("GPU_FAULT", retryable=True)
    with scripted_endpoint(WAITING, passing, WAITING, RUNNING, DONE) as server:
        endpoint = Endpoint(server.url, retry_seconds=0)
        assert run_job(endpoint, INPUT, receiver=None, timeout_seconds=60) == {"status": "completed"}
        assert server.calls.count("POST retry/j") == 1
    assert "GPU_FAULT: why; trying again" in capsys.readouterr().out
    with scripted_endpoint(WAITING, passing) as server:
        with pytest.raises(JobFailed) as raised:
            run_job(Endpoint(server.url), INPUT, receiver=None, timeout_seconds=60)
        assert server.calls.count("POST retry/j") == 2
        assert (raised.value.retryable, raised.value.advice) == (True, "try again later")


@pytest.mark.parametrize(
    ("document", "code", "advice"),
    [
        (failure("VIDEO_UNREADABLE", retryable=False), "VIDEO_UNREADABLE", ADVICE["VIDEO_UNREADABLE"]),
        ({"status": "FAILED", "error": "VIDEO_TOO_LONG: why"}, "VIDEO_TOO_LONG", ADVICE["VIDEO_TOO_LONG"]),
        ({"status": "FAILED", "error": "job died"}, "job died", "see docs/05-errors.md"),
        ({"status": "FAILED", "error": {"odd": 1}, "output": "odd"}, None, "see docs/05-errors.md"),
        ({"status": "TIMED_OUT"}, "TIMED_OUT", ADVICE["TIMED_OUT"]),
        ({"status": "CANCELLED"}, "CANCELLED", ADVICE["CANCELLED"]),
    ],
    ids=["coded", "no details", "no code", "odd", "timed out", "cancelled"],
)
def test_ending_without_result_is_told(document: dict[str, Any], code: str | None, advice: str) -> None:
    """Each has its code and advice, and none is sent again that does not ask for it."""
    with scripted_endpoint(WAITING, document) as server:
        with pytest.raises(JobFailed) as raised:
            run_job(Endpoint(server.url), INPUT, receiver=None, timeout_seconds=60)

        assert "POST retry/j" not in server.calls
    assert raised.value.code == code or code is None
    assert raised.value.advice == advice


def test_every_ending_that_stays_has_advice() -> None:
    """The codes that a caller can get and that come again, and two states; the same in TypeScript."""
    unanswered = {ErrorCode.CANCELLED, ErrorCode.SHUTTING_DOWN}
    final = {code.value for code in ErrorCode if not code.retryable} - unanswered

    assert final - set(ADVICE) == set()
    assert set(ADVICE) <= {*ErrorCode, "TIMED_OUT", "CANCELLED"}
    typescript = (Path(__file__).parents[2] / "examples/typescript/errors.ts").read_text()
    assert dict(re.findall(r'^  ([A-Z_]+): "(.*)",$', typescript, re.MULTILINE)) == ADVICE


def call(url: str, body: bytes, *, path: str | None = None, head: str | None = None) -> str:
    """Send bytes to a webhook; the status of its answer, empty if it hung up."""
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if path is None else path
    head = f"Content-Length: {len(body)}" if head is None else head
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode("latin-1") + body)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096).split()
    return answer[1].decode() if answer else ""


@pytest.mark.filterwarnings("error")
def test_webhook_receiver_refuses_bad_calls_and_lives(capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong address, size, form or job: refused, and the next call is heard; a second one does no harm."""
    receiver = WebhookReceiver()
    ended = receiver.expect("j")
    good = json.dumps({**DONE, "input": INPUT}).encode()
    try:
        assert call(receiver.url, good, path="/done?token=guess") == "403"
        assert call(receiver.url, good, path="/done?token=\xe9") == "403"
        assert call(receiver.url, b"", head=f"Content-Length: {WEBHOOK_BYTES + 1}") == "413"
        assert call(receiver.url, b"", head="Content-Length: -1") == "411"
        assert call(receiver.url, good, head="Transfer-Encoding: chunked") == "411"
        for body in (b"", b"\xff\x00", b"{", b"[" * 100_000, b"[]", b"null", b"7", good[:-9]):
            assert call(receiver.url, body) == "400", body[:9]
        for document in (
            {},
            {"id": 7, "status": "COMPLETED"},
            {"id": "j"},
            RUNNING,
            {"id": "j", "status": []},
        ):
            assert call(receiver.url, json.dumps(document).encode()) == "400", document
        assert call(receiver.url, json.dumps({**DONE, "id": "other"}).encode()) == "404"
        call(receiver.url, good[:9], head="Content-Length: 400")  # hangs up
        assert not ended.is_set()
        assert call(receiver.url, good) == "200"
        assert ended.is_set()
        assert call(receiver.url, good) == "200"
    finally:
        receiver.close()
    assert capfd.readouterr().err == ""


def test_webhook_ends_a_pause() -> None:
    """Beside a webhook polls are a minute apart; its call brings the next one at once."""
    receiver = WebhookReceiver()
    try:
        with scripted_endpoint(RUNNING, DONE) as server:
            followed = Endpoint(server.url).follow("j", every_seconds=600, called=receiver.expect("j"))
            assert next(followed)["status"] == "IN_PROGRESS"
            assert call(receiver.url, json.dumps(DONE).encode()) == "200"
            assert next(followed)["status"] == "COMPLETED"
    finally:
        receiver.close()
