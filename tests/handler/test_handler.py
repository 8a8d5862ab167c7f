"""One job from dict to dict, with a stand-in for the work."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handler.context import JobContext
from handler.errors import ErrorCode, InputError, SourceError, WorkerError
from handler.handler import Handler, parse
from handler.job import JobWarning, ProgressMessage, Reply
from handler.logs import Redactor
from handler.scratch import Scratch
from handler.settings import WorkerSettings

SIGNATURE = "5ecret0signature"
GOOD = {"video_url": f"https://example.com/clip.mp4?sig={SIGNATURE}"}

Make = Callable[..., Handler]


def reply(work: JobContext) -> Reply:
    """What finished work returns."""
    facts = {"frames": 1, "people": 0, "duration_s": 1.0, "fps": 1.0, "models": "fake"}
    return Reply(job_id=work.job_id, bucket="results", artifacts=(), **facts)


def until_stopped(work: JobContext) -> Reply:
    """Work without an end."""
    while True:
        work.control.check()
        time.sleep(0.001)  # as a frame would take


def run(handler: Handler, job_id: str = "a", job_input: object = GOOD) -> dict[str, Any]:
    """The reply to one job."""
    return asyncio.run(handler.handle({"id": job_id, "input": job_input}))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds handlers with quick limits."""
    scratch = Scratch(tmp_path)

    def build(do: Callable[[JobContext], Reply] = reply, **changes: Any) -> Handler:
        extras = {key: changes.pop(key) for key in ("send_progress", "memory_bytes") if key in changes}
        limits = WorkerSettings(**{"progress_interval_seconds": 0.01, **changes})
        return Handler(do, settings=limits, scratch=scratch, redactor=Redactor(), **extras)

    yield build
    scratch.close()


def test_handler_gives_the_work_what_it_needs(make: Make) -> None:
    """A private folder, gone afterwards, and a hash of the input's content; the reply is plain JSON."""
    seen: list[JobContext] = []

    def do(work: JobContext) -> Reply:
        assert work.folder.is_dir()
        seen.append(work)
        return reply(work)

    handler = make(do)
    reordered = {"options": {"stride": 2, "start_s": 1}, **GOOD}
    other = {**GOOD, "options": {"start_s": 1, "stride": 2}}
    for job_id, job_input in [("a", reordered), ("b", other), ("c", GOOD)]:
        answer = run(handler, job_id, job_input)
        assert (answer["status"], answer["job_id"], answer["bucket"]) == ("completed", job_id, "results")
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer

    assert not any(work.folder.exists() for work in seen)
    first, second, third = [work.input_sha256 for work in seen]
    assert first == second != third


@pytest.mark.parametrize(
    ("error", "code", "retryable", "refresh"),
    [
        (SourceError(ErrorCode.DOWNLOAD_DENIED, "expired", stage="download"), "DOWNLOAD_DENIED", False, None),
        (WorkerError(ErrorCode.DISK_FULL, "full", stage="write"), "DISK_FULL", True, True),
        (RuntimeError("anything"), "INTERNAL", False, None),
        (SystemExit(1), "INTERNAL", False, None),
        (MemoryError(), "INTERNAL", False, None),
    ],
    ids=repr,
)
def test_handler_turns_errors_into_replies(make, error, code, retryable, refresh) -> None:
    """Every exception becomes a coded string with its flags; the unexpected keep their text to themselves."""

    def do(work: JobContext) -> Reply:
        raise error

    handler = make(do)
    answer = run(handler)

    assert answer["error"].startswith(f"{code}: ")
    assert (answer["error_code"], answer["retryable"], answer["job_id"]) == (code, retryable, "a")
    assert answer.get("refresh_worker") == refresh
    assert (handler.leaving == code) == bool(refresh)
    assert "anything" not in answer["error"]


def test_handler_keeps_secrets_out_of_replies(make: Make) -> None:
    """A signature in an error or a warning is hidden, with its URL or on its own."""

    def do(work: JobContext) -> Reply:
        warning = JobWarning(code="ODD", message=f"seen {SIGNATURE}")
        if work.job_id == "good":
            return reply(work).model_copy(update={"warnings": (warning,)})
        raise SourceError(
            ErrorCode.DOWNLOAD_FAILED, f"{work.request.video_url.get_secret_value()} or {SIGNATURE}"
        )

    handler = make(do)
    for job_id in ("good", "bad"):
        answer = run(handler, job_id)
        assert SIGNATURE not in json.dumps(answer)
        assert "[hidden]" in json.dumps(answer)


def test_handler_runs_the_same_id_once(make: Make) -> None:
    """Two calls with one id and input share one run; another input under a running id is refused."""
    started, release = threading.Event(), threading.Event()
    runs: list[str] = []

    def do(work: JobContext) -> Reply:
        runs.append(work.job_id)
        started.set()
        release.wait(10)
        return reply(work)

    handler = make(do)

    async def main() -> list[dict[str, Any]]:
        first = asyncio.create_task(handler.handle({"id": "a", "input": GOOD}))
        second = asyncio.create_task(handler.handle({"id": "a", "input": dict(GOOD)}))
        await asyncio.to_thread(started.wait, 10)
        third = await handler.handle({"id": "a", "input": {"video_url": "https://example.com/other"}})
        release.set()
        return [await first, await second, third]

    first, second, third = asyncio.run(main())
    assert runs == ["a"]
    assert first == second
    assert third["error_code"] == "DUPLICATE_JOB"


def test_handler_runs_jobs_one_at_a_time(make: Make) -> None:
    """Jobs handed in together run one after the other in one thread, and none is mixed up."""
    running: list[str] = []
    threads = set()

    def do(work: JobContext) -> Reply:
        running.append(work.job_id)
        assert running == [work.job_id]
        threads.add(threading.get_ident())
        running.clear()
        return reply(work)

    handler = make(do)

    async def main() -> list[dict[str, Any]]:
        jobs = [handler.handle({"id": str(index), "input": GOOD}) for index in range(5)]
        return await asyncio.gather(*jobs)

    answers = asyncio.run(main())
    assert [answer["job_id"] for answer in answers] == ["0", "1", "2", "3", "4"]
    assert len(threads) == 1


def test_cancelled_job_ends_within_a_check_and_is_not_answered(make: Make, tmp_path: Path) -> None:
    """A cancel comes out at once, the work ends at its next check, its folder goes, and its id runs anew."""
    ended: list[str] = []
    started = threading.Event()

    def do(work: JobContext) -> Reply:
        if started.is_set():
            return reply(work)
        started.set()
        try:
            return until_stopped(work)
        except WorkerError as error:
            ended.append(error.code)
            raise

    handler = make(do)

    async def main() -> dict[str, Any]:
        task = asyncio.create_task(handler.handle({"id": "a", "input": GOOD}))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await handler.handle({"id": "a", "input": GOOD})

    answer = asyncio.run(main())
    assert ended == ["CANCELLED"]
    assert answer["status"] == "completed"
    assert list(tmp_path.glob("worker-*/job-*")) == []


def test_job_stopped_by_a_shutdown_is_not_answered(make: Make) -> None:
    """A job that must end because its worker ends goes back to the queue: no reply at all."""
    started = threading.Event()

    def do(work: JobContext) -> Reply:
        started.set()
        return until_stopped(work)

    handler = make(do)

    async def main() -> None:
        task = asyncio.create_task(handler.handle({"id": "a", "input": GOOD}))
        await asyncio.to_thread(started.wait, 10)
        handler.stop(ErrorCode.SHUTTING_DOWN, "told to")
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())


def test_job_over_its_time_budget_ends(make: Make) -> None:
    """The budget ends a job with a code of its own, below the platform's own limit."""
    answer = run(make(until_stopped, time_budget_seconds=0.05))
    assert answer["error_code"] == "TIME_BUDGET_EXCEEDED"


def test_progress_arrives_before_the_reply(make: Make) -> None:
    """The last update has been delivered when the reply is given, and it belongs to its job."""
    delivered: list[tuple[str, str]] = []
    over = threading.Event()

    def send(job: Any, message: ProgressMessage, seconds: float) -> None:
        over.wait(10)  # a slow queue: nothing is delivered before the work is done
        delivered.append((job["id"], message.stage))

    def do(work: JobContext) -> Reply:
        work.report.stage("download")
        work.report.stage("upload")
        over.set()
        return reply(work)

    run(make(do, send_progress=send))
    assert delivered[-1] == ("a", "upload")


def test_no_progress_follows_the_reply_to_a_job_that_was_given_up(make: Make) -> None:
    """A job that wakes up after STALLED may report once more before it notices; nobody hears of it."""
    delivered: list[str] = []
    given_up, over = threading.Event(), threading.Event()

    def send(job: Any, message: ProgressMessage, seconds: float) -> None:
        delivered.append(message.stage)

    def do(work: JobContext) -> Reply:
        given_up.wait(10)
        work.report.stage("upload")
        time.sleep(0.05)  # the pump has it by now
        over.set()
        work.control.check()
        return reply(work)

    handler = make(do, send_progress=send, stall_seconds=0.1)
    answer = run(handler)
    with pytest.raises(asyncio.CancelledError):  # the worker takes no more jobs
        run(handler, "b")
    given_up.set()
    over.wait(10)

    assert (answer["error_code"], answer["refresh_worker"], delivered) == ("STALLED", True, [])


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("recycle_after_jobs", "2 jobs done"), ("recycle_growth_bytes", "memory grew by 1 MiB")],
)
def test_worker_is_recycled_after_some_jobs_or_when_its_memory_grew(make, limit, reason) -> None:
    """The reply that reaches the limit asks for a new worker, and succeeds all the same."""
    sizes = iter([0, 1 << 20, 2 << 20]) if limit == "recycle_after_jobs" else iter([0, 1, 1 << 20])
    handler = make(**{limit: 2}, memory_bytes=lambda: next(sizes))

    assert [run(handler, job_id).get("refresh_worker") for job_id in "ab"] == [None, True]
    assert handler.leaving == reason


def test_parse_refuses_what_is_not_plain_json() -> None:
    """An input that JSON cannot hold is refused, not hashed by accident."""
    with pytest.raises(InputError, match="INPUT_INVALID"):
        parse({"id": "a", "input": {**GOOD, "options": {"end_s": float("nan")}}})
