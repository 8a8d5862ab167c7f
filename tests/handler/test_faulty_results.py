"""Whole jobs whose results find no place: each fault with its documented outcome.

The faults of uploading are looked at closely in `results/`; here they come at the end of a whole job.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from handler.settings import BucketSettings, WorkerSettings
from handler.transfer.attempts import LONGEST_WAIT_SECONDS
from tests.fakes import FakeModels
from tests.fault_proxy import Answer, Fault, FaultProxy, Stall, fault_proxy
from tests.handler.rig import NUM_FRAMES, Rig, before_frame

IMPATIENT = {"connect_seconds": 0.7, "read_seconds": 0.7, "attempts": 2}


@pytest.fixture
def proxy(rig: Rig) -> Iterator[FaultProxy]:
    """What the worker takes for its bucket."""
    with fault_proxy(rig.bucket.endpoint_url) as proxy:
        rig.stored = {"endpoint_url": proxy.url, **IMPATIENT}
        yield proxy


def later(rig: Rig, proxy: FaultProxy, fault: Fault) -> None:
    """Let the fault begin when the last frames are perceived: after the first look, before the uploads."""
    rig.models = FakeModels(perception=before_frame(NUM_FRAMES - 1, lambda: proxy.begin(fault)))


@pytest.mark.parametrize("fault", [Answer(status=503), Stall(after_bytes=1000)], ids=["503", "stalled"])
def test_bucket_that_fails_at_the_end_has_a_code(
    rig: Rig, proxy: FaultProxy, request: pytest.FixtureRequest, fault: Fault
) -> None:
    """UPLOAD_FAILED, worth a retry; no summary, so nobody takes the rest for complete."""
    job_id = f"bucket-{request.node.callspec.id}"
    later(rig, proxy, fault)
    job = rig.job(job_id)
    reply = rig.run(job)

    assert (reply["error_code"], reply["stage"], reply["retryable"]) == ("UPLOAD_FAILED", "upload", True)
    assert rig.bucket.keys(job_id) == []

    proxy.fault = None
    rig.models = FakeModels()
    again = rig.run(job)
    assert (again["status"], again["reused"]) == ("completed", False)
    assert len(rig.lines(job_id)) == NUM_FRAMES


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"endpoint_url": "http://127.0.0.1:1"}, "UPLOAD_FAILED"),
        ({"secret_access_key": "another-secret"}, "UPLOAD_DENIED"),
        ({"name": "no-such-bucket"}, "UPLOAD_DENIED"),
        ({"name": None, "access_key_id": None, "secret_access_key": None}, "OUTPUT_NOT_ALLOWED"),
    ],
    ids=["nobody listens", "wrong keys", "no such bucket", "no bucket"],
)
def test_bucket_that_cannot_work_is_noticed_before_any_work(
    rig: Rig, change: dict[str, Any], code: str
) -> None:
    """Nothing is fetched and no model is asked for a job whose results would find no place."""
    rig.stored = IMPATIENT | change
    reply = rig.run(rig.job("no-place"))

    assert reply["error_code"] == code
    assert rig.source.requests == []
    assert rig.models.perception.batches == []


def test_upload_url_that_cannot_work_is_noticed_before_any_work(rig: Rig) -> None:
    """A header that the store would miss is named before the video is fetched."""
    put = rig.bucket.presign("put_object", "signed/frames.jsonl.gz", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    reply = rig.run(rig.job("signed", output={"put_urls": {"result.json": put, "frames.jsonl.gz": put}}))

    assert (reply["error_code"], reply["stage"]) == ("INPUT_INVALID", "validate")
    assert "content-md5" in reply["error"]
    assert rig.source.requests == []


def test_silent_bucket_fails_as_such(rig: Rig, proxy: FaultProxy) -> None:
    """UPLOAD_FAILED, and the worker stays: waiting for a store is no stall, however long it takes."""
    proxy.fault = Stall()
    rig.limits = {"stall_seconds": 1.0}
    reply = rig.run(rig.job("silent"))

    assert (reply["error_code"], reply["retryable"]) == ("UPLOAD_FAILED", True)
    assert "refresh_worker" not in reply


def test_limits_of_a_silent_bucket_stay_below_the_stall() -> None:
    """By default even a look that is tried to the end is over before anybody calls the job stalled."""
    bucket, worker = BucketSettings(), WorkerSettings()
    waits = bucket.attempts * (bucket.connect_seconds + bucket.read_seconds + LONGEST_WAIT_SECONDS)
    assert waits < worker.stall_seconds
