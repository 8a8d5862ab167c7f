"""The real SDK's loop in a process of its own, our handler in it, a fake queue around it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from handler.handler import EARLY_STOP_SECONDS, Handler
from handler.logs import Redactor
from handler.scratch import Scratch
from handler.settings import WorkerSettings
from tests.contract.conftest import WorkerProcess
from tests.contract.fake_queue import FakeQueue

SIGNATURE = "5ecret0f0the0url"


def url(path: str) -> dict[str, str]:
    """A job's input whose presigned URL has a secret."""
    return {"video_url": f"https://user:pa55word99@example.com/{path}?X-Amz-Signature={SIGNATURE}&part=1"}


@pytest.fixture
def slow_queue(queue: FakeQueue) -> Iterator[FakeQueue]:
    """A queue whose answers to updates the test delays."""
    yield queue
    queue.progress_delay_seconds = 0.0


def test_updates_arrive_in_order_and_before_the_reply(slow_queue: FakeQueue, worker: WorkerProcess) -> None:
    """The last update says all frames; none follows the one result, or the error of the job after it."""
    slow_queue.progress_delay_seconds = 0.15  # slower than the frames: only a joined pump keeps the order
    for job_id, path in (("watched", "frames/120"), ("failed", "gone"), ("after-failed", "frames/1")):
        slow_queue.submit(job_id, url(path))
    slow_queue.result("after-failed")

    body = slow_queue.result("watched")
    assert {"output"} == set(body)
    assert tuple(body["output"][key] for key in ("status", "job_id", "frames")) == (
        "completed",
        "watched",
        120,
    )
    assert worker.jobs_left() == []
    done = [event.body["output"]["frames_done"] for event in slow_queue.of("watched", "progress")]
    assert slow_queue.kinds("watched") == ["take", *["progress"] * len(done), "done"]
    assert slow_queue.kinds("failed")[-1] == "done"
    assert sorted(set(done)) == done
    assert len(done) >= 2
    assert done[-1] == 120


def test_update_that_the_queue_does_not_take_never_follows_the_result(
    slow_queue: FakeQueue, worker: WorkerProcess
) -> None:
    """A queue slower than the drain: each update is given up, its connection closed; the result is last."""
    slow_queue.progress_delay_seconds = 1.4  # an update has half of the drain, 1 s
    slow_queue.submit("slow-queue", url("frames/40"))
    slow_queue.result("slow-queue")

    assert slow_queue.kinds("slow-queue") == ["take", "done"]


CRASH = "INTERNAL: unexpected error; the worker's log has it under job"
FAILURES = {
    "gone": (url("gone"), "DOWNLOAD_NOT_FOUND: no such video: https://example.com/gone"),
    "crash": (url("crash"), f"{CRASH} crash"),
    "exit": (url("exit"), f"{CRASH} exit"),
    "null": (None, "INPUT_INVALID: "),
    "list": ([1], "INPUT_INVALID: "),
    "before 0": ({"options": {"start_s": -1}}, "INPUT_INVALID: "),
}


def test_worker_answers_a_failed_job_with_a_coded_string(queue: FakeQueue, worker: WorkerProcess) -> None:
    """An error is a string, its code and retry flag beside it, the signature nowhere; the next job runs.

    Whatever it is: an expected error, an unexpected exception, sys.exit, an input that is no object.
    """
    for job_id, (job_input, error) in FAILURES.items():
        queue.submit(job_id, job_input)
        body = queue.result(job_id)
        assert body["error"].startswith(error)
        code = error.partition(":")[0]
        assert body["output"].items() >= {"error_code": code, "retryable": False, "job_id": job_id}.items()
        assert SIGNATURE not in json.dumps(body)
    queue.submit("after", url("frames/1"))
    assert "output" in queue.result("after")


def test_worker_stops_a_cancelled_job_in_each_stage(queue: FakeQueue, worker: WorkerProcess) -> None:
    """A stopped job is never answered, leaves no file, and the worker takes the next job at once."""
    for stage in ("download", "perceive", "upload"):
        job_id = f"cancel-{stage}"
        queue.submit(job_id, url(f"slow/30/{stage}"))
        queue.wait(lambda job_id=job_id: queue.of(job_id, "progress"))
        queue.stop(job_id)
        queue.submit(f"after-{stage}", url("frames/1"))

        queue.result(f"after-{stage}")

        assert queue.of(job_id, "done") == []
        assert worker.jobs_left() == []


def test_worker_obeys_a_stop_that_comes_before_its_job_has_begun(
    queue: FakeQueue, worker: WorkerProcess
) -> None:
    """The SDK begins a job up to 0.1 s after it took it, and would drop a stop that comes before."""
    job_ids = []
    for after in (-0.05, 0.0, 0.02, 0.05, 0.09, 0.12):
        job_ids.append(f"stop-after-{after}")
        queue.submit(job_ids[-1], url("slow/3/track"), stop_after=after)
    queue.submit("after-stops", url("frames/1"))

    queue.result("after-stops", 60)

    assert [job_id for job_id in job_ids if not queue.of(job_id, "take")] == []
    assert [job_id for job_id in job_ids if queue.of(job_id, "done")] == []
    queue.submit(job_ids[-1], url("frames/1"))  # the last one's stop found it running: nothing is kept of it
    assert queue.result(job_ids[-1])["output"]["status"] == "completed"


def test_worker_goes_on_when_the_result_is_refused(queue: FakeQueue, worker: WorkerProcess) -> None:
    """Answers of 500 are tried again until one is accepted; a 400 is final; the next job runs after both."""
    queue.done_statuses["flaky"] = [500]
    queue.done_statuses["refused"] = [400]
    queue.submit("flaky", url("frames/1"))
    queue.wait(lambda: len(queue.of("flaky", "done")) == 2)
    queue.submit("refused", url("frames/1"))
    queue.result("refused")
    queue.submit("next", url("frames/1"))
    queue.result("next")

    first, second = queue.of("flaky", "done")
    assert first.body == second.body
    assert len(queue.of("refused", "done")) == 1


def test_worker_logs_json_lines_with_ids_and_without_secrets(queue: FakeQueue, worker: WorkerProcess) -> None:
    """Every line of a worker is JSON with the platform's keys, and no secret of any job is in any of them."""
    queue.submit("logged", url("crash"))
    queue.result("logged")

    text = worker.output.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [line for line in text.splitlines() if not line.startswith(("{", "---"))] == []
    assert all({"requestId", "message", "level"} <= set(line) for line in lines)
    assert {line["level"] for line in lines} <= {"INFO", "WARN", "ERROR"}  # the SDK's DEBUG shows whole jobs
    (crash,) = [line for line in lines if line["requestId"] == "logged" and line["level"] == "ERROR"]
    assert "RuntimeError: unexpected, with https://example.com/crash?[hidden]" in crash["exception"]
    for secret in (SIGNATURE, "pa55word99", queue.environment()["RUNPOD_AI_API_KEY"]):
        assert secret not in text
    assert SIGNATURE not in json.dumps([event.body for event in queue.events])


def test_idle_worker_leaves_at_once_and_takes_no_job_along(own_worker: WorkerProcess) -> None:
    """SIGTERM while waiting for a job does not wait for its open poll; a job sent then stays queued."""
    own_worker.terminate()
    assert own_worker.exit_code() == 0
    own_worker.queue.wait(lambda: not own_worker.queue.open["job-take"])
    own_worker.queue.submit("late", url("frames/1"))

    assert own_worker.queue.waiting == ["late"]
    assert own_worker.queue.of("late", "take") == []


@pytest.mark.slow
def test_busy_worker_finishes_a_short_job_after_sigterm(own_worker: WorkerProcess) -> None:
    """A job that ends within the grace is answered before the process ends; no other job is taken."""
    queue = own_worker.queue
    queue.submit("short", url("slow/0.5/track"))
    queue.wait(lambda: queue.of("short", "progress"))
    own_worker.terminate()
    queue.submit("late", url("frames/1"))

    assert own_worker.exit_code() == 0
    assert queue.result("short")["output"]["status"] == "completed"
    assert queue.waiting == ["late"]


def test_busy_worker_gives_a_long_job_back_after_sigterm(own_worker: WorkerProcess) -> None:
    """A job that outlasts the grace is stopped, cleaned up and left unanswered: the queue re-runs it."""
    queue = own_worker.queue
    queue.submit("long", url("slow/60/track"))
    queue.wait(lambda: queue.of("long", "progress"))
    own_worker.terminate()

    assert own_worker.exit_code(10) == 0
    assert queue.of("long", "done") == []
    assert list(own_worker.scratch.glob("worker-*")) == []


def test_worker_is_replaced_after_a_device_fault(own_worker: WorkerProcess) -> None:
    """The reply asks the platform to stop the pod, and the process ends before it takes another job."""
    queue = own_worker.queue
    queue.submit("fault", url("fault"))
    body = queue.result("fault")
    queue.submit("late", url("frames/1"))

    assert True is body["stopPod"]
    assert (body["output"]["error_code"], body["output"]["retryable"]) == ("GPU_FAULT", True)
    assert own_worker.exit_code() == 0
    assert queue.waiting == ["late"]


@pytest.mark.slow
def test_stuck_job_is_answered_and_the_worker_replaced(own_worker: WorkerProcess) -> None:
    """Work that never comes back fails as STALLED, and the process ends although its thread does not."""
    queue = own_worker.queue
    queue.submit("stuck", url("stuck/60"))

    body = queue.result("stuck")

    assert (body["output"]["error_code"], body["stopPod"]) == ("STALLED", True)
    assert own_worker.exit_code() == 0


def test_worker_without_weights_reports_itself_unhealthy(tmp_path: Path) -> None:
    """Missing weights never meet a job: the platform is told why, and the process ends without one."""
    with FakeQueue() as queue:
        queue.submit("early", url("frames/1"))
        with WorkerProcess(queue, tmp_path, "without-weights") as worker:
            assert worker.exit_code(60) == 1

        (ping,) = [event.body for event in queue.events if event.kind == "ping"]
        assert (ping["status"], ping["check"]) == ("unhealthy", "weights_are_there")
        assert "hmr2.safetensors is not in the store" in ping["reason"]
        assert queue.waiting == ["early"]
        assert "the models cannot be loaded" in worker.output.read_text()


def test_early_stop_is_kept_for_a_moment_and_for_one_run(tmp_path: Path, monkeypatch) -> None:
    """The same id may come again to be run: after its stop was obeyed once, or some seconds later."""
    now, scratch = [100.0], Scratch(tmp_path)
    monkeypatch.setattr("handler.handler.time.monotonic", lambda: now[0])
    extras = {"settings": WorkerSettings(), "scratch": scratch, "redactor": Redactor()}
    handler = Handler(lambda work: pytest.fail("it was stopped"), **extras)

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
    scratch.close()
