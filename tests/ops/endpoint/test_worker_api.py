"""What the endpoint answers to the requests that RunPod's SDK makes, in every order they can come."""

import asyncio
import io
import time

import pytest

from ops.endpoint.registry import Notifier
from tests.ops.endpoint.conftest import SETTINGS, Clock, running

pytestmark = pytest.mark.anyio


class WatchedChanges(Notifier):
    """Tells when a request begins to wait for a change, and when one was given up."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.given_up = asyncio.Event(), asyncio.Event()

    async def wait(self, seconds: float) -> None:
        self.held.set()
        try:
            await super().wait(seconds)
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        finally:
            self.held.clear()


@pytest.fixture
def changes(endpoint) -> WatchedChanges:
    """The endpoint's own notifier, watched."""
    endpoint.registry.changes = watched = WatchedChanges()
    endpoint.registry.queue.on_change = watched.notify
    return watched


async def test_take_is_held_until_a_job_comes(endpoint, changes):
    """A waiting worker has the job as soon as it is submitted; without one it gets 204 after the hold."""
    start = time.monotonic()
    assert await endpoint.take("w") == (204, None)
    assert time.monotonic() - start >= 0.25
    waiting = asyncio.create_task(endpoint.take("w"))
    await changes.held.wait()
    request = {"id": "mine", "input": {"x": 1}, "policy": {"ttl": 10_000}, "s3Config": {"a": "b"}}
    job_id = await endpoint.run(request)
    assert await waiting == (200, {**request, "id": job_id})


async def test_worker_that_hung_up_is_given_no_job(endpoint, changes):
    """A held request whose connection broke must not swallow the next job."""
    asked = asyncio.create_task(endpoint.take("gone"))
    await changes.held.wait()
    asked.cancel()
    async with asyncio.timeout(10):
        await changes.given_up.wait()
    job_id = await endpoint.run()
    assert (await endpoint.status(job_id))["status"] == "IN_QUEUE"
    assert (await endpoint.take("w"))[1]["id"] == job_id


async def test_batch_take_gives_a_list(endpoint):
    """Up to as many as asked, in order."""
    job_ids = [await endpoint.run() for _ in range(3)]
    url = f"{endpoint.url}/job-take-batch/w?gpu=x&batch_size=2&job_in_progress=0"
    async with endpoint.worker.get(url) as reply:
        assert [job["id"] for job in await reply.json()] == job_ids[:2]
    async with endpoint.worker.get(url.replace("=2", "=none")) as reply:
        assert reply.status == 400


async def test_job_that_got_lost_on_the_way_is_given_again(endpoint):
    """A worker that asks with nothing in progress does not have what it was given."""
    job_id = await endpoint.run_and_take()
    assert await endpoint.take("w") == (204, None), "still its own while it has work in progress"
    assert (await endpoint.take("w", "job_in_progress=0"))[1]["id"] == job_id
    assert (await endpoint.done("w", job_id, {"output": 1})) == 200
    assert (await endpoint.status(job_id))["retries"] == 1


async def test_result_is_kept_once(endpoint):
    """A second report, or a late progress, is answered 200 and changes nothing; an unknown job is a 404."""
    job_id = await endpoint.run_and_take()
    assert await endpoint.done("w", job_id, {"status": "IN_PROGRESS", "output": {"p": 1}}) == 200
    assert (await endpoint.status(job_id))["output"] == {"p": 1}
    assert await endpoint.done("w", job_id, {"output": {"r": 1}}) == 200
    first = await endpoint.status(job_id)
    assert await endpoint.done("w", job_id, {"error": "late"}) == 200
    assert await endpoint.done("w", job_id, {"status": "IN_PROGRESS", "output": {"p": 2}}) == 200
    assert await endpoint.status(job_id) == first
    assert await endpoint.done("w", "unknown", {"output": 1}) == 404


@pytest.mark.parametrize(
    ("body", "code", "status", "error"),
    [
        ({"output": {"x": 1}}, 200, "COMPLETED", None),
        ({}, 200, "COMPLETED", None),
        ({"output": {"x": 1}, "error": "A: b"}, 200, "FAILED", "A: b"),
        ({"error": {"nested": 1}}, 200, "FAILED", '{"nested":1}'),
        ({"output": float("nan")}, 400, "FAILED", "RESULT_INVALID: the body is not JSON"),
        ("[1]", 400, "FAILED", "RESULT_INVALID: the body is not a JSON object"),
        (b"\xff{", 400, "FAILED", "RESULT_INVALID: the body is not JSON"),
        ({"status": "IN_PROGRESS", "output": float("nan")}, 400, "IN_PROGRESS", None),
        ({"status": "IN_PROGRESS"}, 200, "IN_PROGRESS", None),
    ],
    ids=["output", "nothing", "error", "object", "nan", "list", "garbage", "nan-progress", "no-progress"],
)
async def test_result_ends_the_job_as_it_says(endpoint, body, code, status, error):
    """What cannot be kept fails the job at once, since the SDK drops it; bad progress alone does not."""
    job_id = await endpoint.run_and_take()
    assert await endpoint.done("w", job_id, body) == code
    document = await endpoint.status(job_id)
    assert (document["status"], document.get("error")) == (status, error)


async def test_result_that_is_too_large_fails_the_job(endpoint):
    """20 MB, as on RunPod; there the job would hang until its timeout."""
    job_id = await endpoint.run_and_take()
    body = io.BytesIO(b'{"output":"' + b"x" * 20_000_001 + b'"}')
    assert await endpoint.done("w", job_id, body) == 413
    assert (await endpoint.status(job_id))["error"].startswith("RESULT_TOO_LARGE")


async def test_stop_reaches_the_worker_at_once_and_again_until_it_is_obeyed(endpoint, changes):
    """A held job-stop returns on cancel, and once more for every heartbeat that still names the job."""
    job_id = await endpoint.run_and_take()
    waiting = asyncio.create_task(endpoint.stops("w"))
    await changes.held.wait()
    await endpoint.ask("POST", f"cancel/{job_id}")
    assert await waiting == [job_id]
    for _ in range(2):
        assert await endpoint.stops("w") == []
        waiting = asyncio.create_task(endpoint.stops("w"))
        await changes.held.wait()
        await endpoint.ping("w", job_id)
        assert await waiting == [job_id]
    await endpoint.ping("w", "another")
    assert await endpoint.stops("w") == ["another"]
    await endpoint.ping("w")
    assert await endpoint.stops("w") == []


async def test_heartbeat_tells_a_restarted_endpoint_what_must_stop(endpoint):
    """A worker that works on a job it does not have (any more) learns so without a memory of it."""
    job_id = await endpoint.run_and_take("w1")
    await endpoint.ping("w2", f"{job_id},unknown")
    assert set(await endpoint.stops("w2")) == {job_id, "unknown"}
    assert await endpoint.stops("w1") == []


async def test_worker_that_does_not_stop_must_leave(tmp_path):
    """Our own is dismissed: no more jobs, and its supervisor ends it; another's is told again."""
    clock = Clock()
    async with running(tmp_path, clock=clock) as endpoint:
        worker = endpoint.registry.add("ours")
        for worker_id in ("ours", "theirs"):
            job_id = await endpoint.run_and_take(worker_id)
            await endpoint.ask("POST", f"cancel/{job_id}")
            assert await endpoint.stops(worker_id) == [job_id]
            await endpoint.ping(worker_id, job_id)
            assert worker.must_leave == (worker_id == "theirs")
            clock.advance(SETTINGS.stop_seconds)
            await endpoint.ping(worker_id, job_id)
        assert worker.must_leave
        assert await endpoint.stops("theirs") == [job_id]
        await endpoint.run()
        assert await endpoint.take("ours") == (204, None)


async def test_job_given_again_is_not_stopped_by_an_old_signal(endpoint):
    """Timed out, retried and taken by the same worker before it asked what to stop: the new run goes on."""
    job_id = await endpoint.run_and_take()
    endpoint.registry.queue.db.execute("UPDATE jobs SET started_at = 0")
    endpoint.registry.sweep()
    assert (await endpoint.status(job_id))["status"] == "TIMED_OUT"
    assert (await endpoint.ask("POST", f"retry/{job_id}"))[0] == 200
    assert (await endpoint.take("w"))[1]["id"] == job_id
    assert await endpoint.stops("w") == []


async def test_heartbeat_of_an_ended_process_counts_for_nothing(endpoint):
    """The SDK's heartbeat process can outlive a killed worker and would keep its job for ever."""
    endpoint.registry.add("w")
    job_id = await endpoint.run_and_take()
    endpoint.registry.ended("w")
    await endpoint.ping("w", job_id)
    assert (await endpoint.status(job_id))["status"] == "IN_QUEUE"
    assert await endpoint.take("w") == (404, None)


async def test_health_knows_the_workers(endpoint):
    """Ours from their start, others while they are heard."""
    endpoint.registry.add("ours")
    await endpoint.run_and_take("theirs")
    _, health = await endpoint.ask("GET", "health")
    assert health == {
        "jobs": {"completed": 0, "failed": 0, "retried": 0, "inQueue": 0, "inProgress": 1},
        "workers": {
            "idle": 0, "initializing": 1, "ready": 1, "running": 1, "throttled": 0, "unhealthy": 0,
        },
    }  # fmt: skip


async def test_notifier_does_not_swallow_a_cancellation():
    """Woken and cancelled at once, the waiting task ends: the endpoint would hang at its end otherwise."""
    notifier = Notifier()
    task = asyncio.create_task(notifier.wait(60))
    await asyncio.sleep(0)  # lets the task begin to wait
    notifier.notify()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
