"""A stop that comes before its job's first step, in the SDK's own scheduler."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handler import worker
from handler.handler import EARLY_STOP_SECONDS, Handler
from handler.logs import Redactor
from handler.scratch import Scratch
from handler.settings import WorkerSettings


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[Handler]:
    """A handler whose work must never begin."""
    scratch = Scratch(tmp_path)
    yield Handler(
        lambda work: pytest.fail("it was stopped"),
        settings=WorkerSettings(),
        scratch=scratch,
        redactor=Redactor(),
    )
    scratch.close()


def test_job_stopped_before_its_first_step_is_counted_as_ended(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its task is not cancelled unbegun, which would leave it in the SDK's books for ever."""
    worker.quiet_platform_logs()
    from runpod.serverless.modules.rp_scale import JobScaler

    monkeypatch.setattr(JobScaler, "stop_job", JobScaler.stop_job)  # put back afterwards
    worker.keep_early_stops(handler)
    job = {"id": "a", "input": {"video_url": "https://example.com/a.mp4"}}

    async def main() -> None:
        scaler: Any = JobScaler({})
        scaler.jobs_handler = lambda session, config, job: handler.handle(job)
        scaler.jobs_queue.put_nowait(job)
        scaler.job_progress.add(job)
        task = asyncio.create_task(scaler.handle_job(None, scaler.jobs_queue.get_nowait()))
        scaler.jobs_tasks["a"] = task
        await scaler.stop_job("a")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (scaler.current_occupancy(), scaler.jobs_tasks) == (0, {})

    asyncio.run(main())


def test_early_stop_is_kept_for_a_moment_and_for_one_run(
    handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same id may come again to be run: after its stop was obeyed once, or some seconds later."""
    now = [100.0]
    monkeypatch.setattr("handler.handler.time.monotonic", lambda: now[0])

    def outcome(job_id: str) -> str:
        try:
            return str(asyncio.run(handler.handle({"id": job_id, "input": None}))["error_code"])
        except asyncio.CancelledError:
            return "cancelled"

    handler.refuse("a")
    assert [outcome("b"), outcome("a"), outcome("a")] == ["INPUT_INVALID", "cancelled", "INPUT_INVALID"]
    handler.refuse("a")
    now[0] += EARLY_STOP_SECONDS
    assert outcome("a") == "INPUT_INVALID"
