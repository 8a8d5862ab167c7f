"""What the endpoint answers to the requests that RunPod's SDK makes, in every order they can come."""

import asyncio
import io
import time
from pathlib import Path

import aiohttp
import pytest

from ops.endpoint.registry import Bell
from tests.ops.endpoint.clock import Clock
from tests.ops.endpoint.running import SETTINGS, running


def test_take_is_held_until_a_job_comes(tmp_path: Path) -> None:
    """A waiting worker has the job as soon as it is submitted; without one it gets 204 after the hold."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            start = time.monotonic()
            assert await endpoint.take("w") == (204, None)
            assert time.monotonic() - start >= 0.25
            waiting = asyncio.create_task(endpoint.take("w"))
            await asyncio.sleep(0.05)
            job_id = await endpoint.run(
                {"input": {"x": 1}, "policy": {"ttl": 10_000}, "s3Config": {"a": "b"}}
            )
            code, job = await waiting
            assert code == 200
            assert job == {"id": job_id, "input": {"x": 1}, "policy": {"ttl": 10_000}, "s3Config": {"a": "b"}}

    asyncio.run(main())


def test_worker_that_hung_up_is_given_no_job(tmp_path: Path) -> None:
    """A held request whose connection broke must not swallow the next job."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await endpoint.take("gone")
            await asyncio.sleep(0.05)
            job_id = await endpoint.run({"input": {}})
            assert (await endpoint.status(job_id))["status"] == "IN_QUEUE"
            assert (await endpoint.take("w"))[1]["id"] == job_id

    asyncio.run(main())


def test_batch_take_gives_a_list(tmp_path: Path) -> None:
    """Up to as many as asked, in order."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_ids = [await endpoint.run({"input": {}}) for _ in range(3)]
            url = f"{endpoint.url}/job-take-batch/w?gpu=x&batch_size=2&job_in_progress=0"
            async with endpoint.worker.get(url) as reply:
                assert [job["id"] for job in await reply.json()] == job_ids[:2]
            async with endpoint.worker.get(url.replace("=2", "=none")) as reply:
                assert reply.status == 400

    asyncio.run(main())


def test_job_that_got_lost_on_the_way_is_given_again(tmp_path: Path) -> None:
    """A worker that asks with nothing in progress does not have what it was given."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            assert (await endpoint.take("w"))[1]["id"] == job_id
            assert await endpoint.take("w") == (204, None), "still its own while it has work in progress"
            assert (await endpoint.take("w", "job_in_progress=0"))[1]["id"] == job_id
            assert (await endpoint.done("w", job_id, {"output": 1})) == 200
            assert (await endpoint.status(job_id))["retries"] == 1

    asyncio.run(main())


def test_result_is_kept_once(tmp_path: Path) -> None:
    """A second report, or a late progress, is answered 200 and changes nothing; an unknown job is a 404."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w")
            assert await endpoint.done("w", job_id, {"status": "IN_PROGRESS", "output": {"p": 1}}) == 200
            assert (await endpoint.status(job_id))["output"] == {"p": 1}
            assert await endpoint.done("w", job_id, {"output": {"r": 1}}) == 200
            first = await endpoint.status(job_id)
            assert await endpoint.done("w", job_id, {"error": "late"}) == 200
            assert await endpoint.done("w", job_id, {"status": "IN_PROGRESS", "output": {"p": 2}}) == 200
            assert await endpoint.status(job_id) == first
            assert await endpoint.done("w", "unknown", {"output": 1}) == 404

    asyncio.run(main())


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
def test_result_ends_the_job_as_it_says(
    tmp_path: Path, body: object, code: int, status: str, error: str | None
) -> None:
    """What cannot be kept fails the job at once, since the SDK drops it; bad progress alone does not."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w")
            assert await endpoint.done("w", job_id, body) == code
            document = await endpoint.status(job_id)
            assert (document["status"], document.get("error")) == (status, error)

    asyncio.run(main())


def test_result_that_is_too_large_fails_the_job(tmp_path: Path) -> None:
    """20 MB, as on RunPod; there the job would hang until its timeout."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w")
            body = io.BytesIO(b'{"output":"' + b"x" * 20_000_001 + b'"}')
            async with endpoint.worker.post(f"{endpoint.url}/job-done/w/{job_id}?gpu=x", data=body) as reply:
                assert reply.status == 413
            assert (await endpoint.status(job_id))["error"].startswith("RESULT_TOO_LARGE")

    asyncio.run(main())


def test_stop_reaches_the_worker_at_once_and_again_until_it_is_obeyed(tmp_path: Path) -> None:
    """A held job-stop returns on cancel, and once more for every heartbeat that still names the job."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w")
            waiting = asyncio.create_task(endpoint.stops("w"))
            await asyncio.sleep(0.05)
            await endpoint.ask("POST", f"cancel/{job_id}")
            assert await waiting == [job_id]
            for _ in range(2):
                assert await endpoint.stops("w") == []
                waiting = asyncio.create_task(endpoint.stops("w"))
                await asyncio.sleep(0.05)
                await endpoint.ping("w", job_id)
                assert await waiting == [job_id]
            await endpoint.ping("w", "another")
            assert await endpoint.stops("w") == ["another"]
            await endpoint.ping("w")
            assert await endpoint.stops("w") == []

    asyncio.run(main())


def test_heartbeat_tells_a_restarted_endpoint_what_must_stop(tmp_path: Path) -> None:
    """A worker that works on a job it does not have (any more) learns so without a memory of it."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w1")
            await endpoint.ping("w2", f"{job_id},unknown")
            assert set(await endpoint.stops("w2")) == {job_id, "unknown"}
            assert await endpoint.stops("w1") == []

    asyncio.run(main())


def test_worker_that_does_not_stop_must_leave(tmp_path: Path) -> None:
    """Our own is dismissed: no more jobs, and its supervisor ends it; another's is told again."""
    clock = Clock()

    async def main() -> None:
        async with running(tmp_path, clock=clock) as endpoint:
            worker = endpoint.desk.expect("ours")
            for worker_id in ("ours", "theirs"):
                job_id = await endpoint.run({"input": {}})
                await endpoint.take(worker_id)
                await endpoint.ask("POST", f"cancel/{job_id}")
                assert await endpoint.stops(worker_id) == [job_id]
                await endpoint.ping(worker_id, job_id)
                assert not worker.must_leave.is_set() or worker_id == "theirs"
                clock.advance(SETTINGS.stop_seconds)
                await endpoint.ping(worker_id, job_id)
            assert worker.must_leave.is_set()
            assert await endpoint.stops("theirs") == [job_id]
            await endpoint.run({"input": {}})
            assert await endpoint.take("ours") == (204, None)

    asyncio.run(main())


def test_job_given_again_is_not_stopped_by_an_old_signal(tmp_path: Path) -> None:
    """Timed out, retried and taken by the same worker before it asked what to stop: the new run goes on."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w")
            endpoint.desk.queue.db.execute("UPDATE jobs SET started_at = 0")
            endpoint.desk.sweep()
            assert (await endpoint.status(job_id))["status"] == "TIMED_OUT"
            assert (await endpoint.ask("POST", f"retry/{job_id}"))[0] == 200
            assert (await endpoint.take("w"))[1]["id"] == job_id
            assert await endpoint.stops("w") == []

    asyncio.run(main())


def test_heartbeat_of_an_ended_process_counts_for_nothing(tmp_path: Path) -> None:
    """The SDK's heartbeat process can outlive a killed worker and would keep its job for ever."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            endpoint.desk.expect("w")
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w")
            endpoint.desk.part("w")
            await endpoint.ping("w", job_id)
            assert (await endpoint.status(job_id))["status"] == "IN_QUEUE"
            assert await endpoint.take("w") == (404, None)

    asyncio.run(main())


def test_health_knows_the_workers(tmp_path: Path) -> None:
    """Ours from their start, others while they are heard."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            endpoint.desk.expect("ours")
            await endpoint.run({"input": {}})
            await endpoint.take("theirs")
            _, health = await endpoint.ask("GET", "health")
            assert health["jobs"] == {
                "completed": 0,
                "failed": 0,
                "retried": 0,
                "inQueue": 0,
                "inProgress": 1,
            }
            counts = {"idle": 0, "initializing": 1, "ready": 1, "running": 1, "throttled": 0, "unhealthy": 0}
            assert health["workers"] == counts

    asyncio.run(main())


def test_parts_are_limited_to_their_size(tmp_path: Path) -> None:
    """1 MB each, as on RunPod."""

    async def main() -> None:
        async with running(tmp_path) as endpoint:
            job_id = await endpoint.run({"input": {}})
            await endpoint.take("w")
            url = f"{endpoint.url}/job-stream/w/{job_id}?gpu=x&isStream=false"
            bodies = [(b'{"output":1}', 200), (b"{}", 400), (b'"%s"' % (b"x" * 1_000_001), 413)]
            for body, code in bodies:
                async with endpoint.worker.post(url, data=body) as reply:
                    assert reply.status == code
            _, document = await endpoint.ask("GET", f"stream/{job_id}")
            assert document == {"status": "IN_PROGRESS", "stream": [{"output": 1}]}

    asyncio.run(main())


def test_worker_routes_need_the_worker_key(tmp_path: Path) -> None:
    """A caller cannot take jobs or make up results."""

    async def main() -> None:
        async with running(tmp_path) as endpoint, aiohttp.ClientSession() as stranger:
            for method, path in [("GET", "job-take/w"), ("GET", "job-stop/w"), ("POST", "job-done/w/j")]:
                async with stranger.request(method, f"{endpoint.url}/{path}?gpu=x") as reply:
                    assert reply.status == 401

    asyncio.run(main())


def test_bell_does_not_swallow_a_cancellation() -> None:
    """Rung and cancelled at once, the waiting task ends: the endpoint would hang at its end otherwise."""

    async def main() -> None:
        bell = Bell()
        task = asyncio.create_task(bell.wait(60))
        await asyncio.sleep(0)
        bell.ring()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
