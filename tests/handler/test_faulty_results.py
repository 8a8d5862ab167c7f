"""Whole jobs whose results find no place: each fault with its documented outcome.

The faults of uploading are looked at closely in `results/`; here they come at the end of a whole job.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from handler.settings import BucketSettings, WorkerSettings
from handler.transfer.connections import LONGEST_WAIT_SECONDS
from tests.fakes import FakeModels
from tests.fault_proxy import Answer, Cut, Fault, FaultProxy, Slow, Stall, fault_proxy
from tests.handler.world import NUM_FRAMES, World, before_frame

IMPATIENT = {"connect_seconds": 0.7, "read_seconds": 0.7, "attempts": 2}


@pytest.fixture
def proxy(world: World) -> Iterator[FaultProxy]:
    """What the worker takes for its bucket."""
    with fault_proxy(world.bucket.endpoint_url) as proxy:
        world.stored = {"endpoint_url": proxy.url, **IMPATIENT}
        yield proxy


def later(world: World, proxy: FaultProxy, fault: Fault) -> None:
    """Let the fault begin when the last frames are perceived: after the first look, before the uploads."""
    world.models = FakeModels(perception=before_frame(NUM_FRAMES - 1, lambda: proxy.begin(fault)))


@pytest.mark.parametrize(
    "fault",
    [
        lambda: Answer(status=500),
        lambda: Answer(status=503),
        lambda: Cut(after_bytes=1000),
        lambda: Stall(after_bytes=1000),
    ],
    ids=["500", "503", "gone mid-upload", "stalled"],
)
def test_bucket_that_fails_at_the_end_has_a_code(
    world: World, proxy: FaultProxy, request: pytest.FixtureRequest, fault: Callable[[], Fault]
) -> None:
    """UPLOAD_FAILED, worth a retry; no summary, so nobody takes the rest for complete."""
    job_id = f"bucket-{request.node.callspec.id.replace(' ', '-')}"
    later(world, proxy, fault())
    job = world.job(job_id)
    reply = world.run(job)

    assert (reply["error_code"], reply["stage"], reply["retryable"]) == ("UPLOAD_FAILED", "upload", True)
    assert world.bucket.keys(job_id) == []

    proxy.fault = None
    world.models = FakeModels()
    again = world.run(job)
    assert (again["status"], again["reused"]) == ("completed", False)
    assert len(world.lines(job_id)) == NUM_FRAMES


def test_slow_bucket_ends_at_its_limit(world: World, proxy: FaultProxy) -> None:
    """Bytes that crawl do not hold the worker for ever."""
    later(world, proxy, Slow(bytes_per_second=200))
    world.stored |= {"upload_seconds": 0.5, "read_seconds": 10.0}
    reply = world.run(world.job("bucket-slow"))

    assert (reply["error_code"], reply["retryable"]) == ("UPLOAD_FAILED", True)
    assert world.bucket.keys("bucket-slow") == []


def test_bucket_that_was_busy_once_costs_nothing(world: World, proxy: FaultProxy) -> None:
    """A 503 in between is tried again."""
    later(world, proxy, Answer(status=503, times=1))
    world.stored |= {"attempts": 3}
    assert world.run(world.job("bucket-busy"))["frames"] == NUM_FRAMES
    assert len(world.lines("bucket-busy")) == NUM_FRAMES


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
    world: World, change: dict[str, Any], code: str
) -> None:
    """Nothing is fetched and no model is asked for a job whose results would find no place."""
    world.stored = IMPATIENT | change
    reply = world.run(world.job("no-place"))

    assert reply["error_code"] == code
    assert world.source.requests == []
    assert world.models.perception.batches == []


def test_upload_url_that_cannot_work_is_noticed_before_any_work(world: World) -> None:
    """A header that the store would miss is named before the video is fetched."""
    put = world.bucket.presign("put_object", "signed/frames.jsonl.gz", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    reply = world.run(world.job("signed", output={"put_urls": {"result.json": put, "frames.jsonl.gz": put}}))

    assert (reply["error_code"], reply["stage"]) == ("INPUT_INVALID", "validate")
    assert "content-md5" in reply["error"]
    assert world.source.requests == []


def test_silent_bucket_fails_as_such(world: World, proxy: FaultProxy) -> None:
    """UPLOAD_FAILED, and the worker stays: waiting for a store is no stall, however long it takes."""
    proxy.fault = Stall()
    world.limits = {"stall_seconds": 1.0}
    reply = world.run(world.job("silent"))

    assert (reply["error_code"], reply["retryable"]) == ("UPLOAD_FAILED", True)
    assert "refresh_worker" not in reply


def test_limits_of_a_silent_bucket_stay_below_the_stall() -> None:
    """By default even a look that is tried to the end is over before anybody calls the job stalled."""
    bucket, worker = BucketSettings(), WorkerSettings()
    waits = bucket.attempts * (bucket.connect_seconds + bucket.read_seconds + LONGEST_WAIT_SECONDS)
    assert waits < worker.stall_seconds
