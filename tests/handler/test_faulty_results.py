"""Whole jobs whose results find no place: each fault with its documented outcome.

The faults of uploading are looked at closely in `results/`; here they come at the end of a whole job.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

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
