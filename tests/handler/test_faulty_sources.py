"""Whole jobs whose video cannot be had, or only just: one fault of each kind; `transfer/` has all of them."""

from typing import Any

import pytest

from tests.handler.rig import NUM_FRAMES, Rig
from tests.http_source import Fault

METADATA = "http://169.254.169.254/latest/meta-data/"
IMPATIENT = {"read_seconds": 0.5}
PUBLIC_ONLY = {"allow_private_addresses": False}


@pytest.mark.parametrize(
    ("fault", "intake", "code", "retryable"),
    [
        pytest.param(Fault(status=403), {}, "DOWNLOAD_DENIED", False, id="forbidden"),
        pytest.param(Fault(status=404), {}, "DOWNLOAD_NOT_FOUND", False, id="404"),
        pytest.param(Fault(status=500), {}, "DOWNLOAD_FAILED", True, id="500 for ever"),
        pytest.param(Fault(stall_after=2000), IMPATIENT, "DOWNLOAD_FAILED", True, id="stalled"),
        pytest.param(Fault(silent=True), {"download_seconds": 0.3}, "DOWNLOAD_FAILED", True, id="deadline"),
        pytest.param(Fault(), {"max_bytes": 1000}, "VIDEO_TOO_LARGE", False, id="too large"),
        pytest.param(Fault(redirect=METADATA), {}, "URL_NOT_ALLOWED", False, id="redirect to metadata"),
        pytest.param(Fault(), PUBLIC_ONLY, "URL_NOT_ALLOWED", False, id="private address"),
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


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(cut_after=2000)], ids=["503", "truncated"])
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
