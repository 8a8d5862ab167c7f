"""Whole jobs whose video cannot be had, or only just: each fault with its documented outcome.

The faults of downloading themselves are looked at closely in `source/`; here they go through a whole job.
"""

import socket
from typing import Any

import pytest

from tests.handler.rig import NUM_FRAMES, QUERY, Rig
from tests.http_source import Fault

METADATA = "http://169.254.169.254/latest/meta-data/"
IMPATIENT = {"read_seconds": 0.5}
SLOW = {"min_bytes_per_second": 1e6, "min_rate_seconds": 0.1, "download_attempts": 1}


@pytest.mark.parametrize(
    ("fault", "intake", "code", "retryable"),
    [
        pytest.param(Fault(status=403), {}, "DOWNLOAD_DENIED", False, id="forbidden"),
        pytest.param(Fault(status=404), {}, "DOWNLOAD_NOT_FOUND", False, id="404"),
        pytest.param(Fault(status=500), {}, "DOWNLOAD_FAILED", True, id="500 for ever"),
        pytest.param(Fault(silent=True), IMPATIENT, "DOWNLOAD_FAILED", True, id="silent"),
        pytest.param(Fault(stall_after=2000), IMPATIENT, "DOWNLOAD_FAILED", True, id="stalled"),
        pytest.param(Fault(bytes_per_second=20_000), SLOW, "DOWNLOAD_FAILED", True, id="slow"),
        pytest.param(Fault(silent=True), {"download_seconds": 0.3}, "DOWNLOAD_FAILED", True, id="deadline"),
        pytest.param(Fault(cut_after=2000), {}, "DOWNLOAD_FAILED", True, id="truncated"),
        pytest.param(Fault(), {"max_bytes": 1000}, "VIDEO_TOO_LARGE", False, id="too large"),
        pytest.param(
            Fault(no_length=True), {"max_bytes": 1000}, "VIDEO_TOO_LARGE", False, id="too large, unannounced"
        ),
        pytest.param(Fault(redirect=METADATA), {}, "URL_NOT_ALLOWED", False, id="redirect to metadata"),
        pytest.param(
            Fault(redirect=f"http://127.0.0.1:1/{QUERY}"),
            {},
            "DOWNLOAD_FAILED",
            True,
            id="redirect to nowhere",
        ),
        pytest.param(
            Fault(redirect="file:///etc/passwd"), {}, "URL_NOT_ALLOWED", False, id="redirect to a file"
        ),
        pytest.param(
            Fault(), {"allow_private_addresses": False}, "URL_NOT_ALLOWED", False, id="private address"
        ),
        pytest.param(Fault(), {"allow_http": False}, "URL_NOT_ALLOWED", False, id="http"),
    ],
)
def test_video_that_cannot_be_had_has_a_code(
    rig: Rig,
    request: pytest.FixtureRequest,
    fault: Fault,
    intake: dict[str, Any],
    code: str,
    retryable: bool,
) -> None:
    """The job fails in its first stage, before a model is asked, and stores nothing."""
    rig.intake = intake
    job_id = request.node.callspec.id.replace(" ", "-")
    reply = rig.run(rig.job(job_id, always=fault))

    assert (reply["error_code"], reply["stage"], reply["retryable"]) == (code, "download", retryable)
    assert rig.models.perception.batches == []
    assert rig.bucket.keys(job_id) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(cut_after=2000),
        Fault(cut_after=2000, reset=True),
        Fault(stall_after=2000),
        Fault(declared_length=10**6),
    ],
    ids=["500", "503", "truncated", "reset", "stalled", "announced too long"],
)
def test_fault_that_passes_costs_nothing(rig: Rig, request: pytest.FixtureRequest, fault: Fault) -> None:
    """500 then fine, and the like: the next attempt completes the file, and the result is whole."""
    rig.intake = IMPATIENT | {"download_attempts": 5}
    job_id = f"passing-{request.node.callspec.id.replace(' ', '-')}"
    reply = rig.run(rig.job(job_id, None, fault))

    assert reply["frames"] == NUM_FRAMES
    assert len(rig.lines(job_id)) == NUM_FRAMES
    assert len(rig.source.requests) >= 2


def test_expired_link_is_told(rig: Rig) -> None:
    """A presigned URL past its time is DOWNLOAD_DENIED, on a server that enforces it."""
    rig.bucket.put("videos/clip.mp4", rig.clip.read_bytes())
    job = rig.job("expired")
    job["input"]["video_url"] = rig.bucket.presign("get_object", "videos/clip.mp4", expires_seconds=-60)
    reply = rig.run(job)

    assert (reply["error_code"], reply["stage"]) == ("DOWNLOAD_DENIED", "download")
    assert "a new link is needed" in reply["error"]
    assert "X-Amz" not in rig.log.getvalue() + reply["error"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "concat:/etc/passwd", "s3://bucket/key", "//x", "x"])
def test_other_schemes_are_refused(rig: Rig, url: str) -> None:
    """Only http(s) is fetched."""
    job = rig.job("scheme")
    job["input"]["video_url"] = url
    assert rig.run(job)["error_code"] == "URL_NOT_ALLOWED"


def test_public_name_with_a_private_address_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What DNS answers is checked, not only what the URL says."""

    def answer(host: str, port: int, *_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", port))]

    job = rig.job("dns")
    job["input"]["video_url"] = f"https://videos.example.com/clip.mp4{QUERY}"
    rig.intake = {"allow_private_addresses": False}
    rig.stored = {"name": None, "access_key_id": None, "secret_access_key": None}
    put = rig.source.url("put") + QUERY
    job["input"]["output"] = {"put_urls": {"result.json": put, "frames.jsonl.gz": put}}
    monkeypatch.setattr(socket, "getaddrinfo", answer)
    reply = rig.run(job)

    assert (reply["error_code"], reply["stage"]) == ("URL_NOT_ALLOWED", "download")
    assert rig.source.requests == []
