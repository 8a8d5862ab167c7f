"""What the durable queue does with jobs, workers and time."""

import contextlib
import sqlite3

import pytest

from ops.endpoint import CannotServe
from ops.endpoint.jobs import State, Stop
from ops.endpoint.queue import JobQueue
from ops.endpoint.settings import ServeSettings

SETTINGS = ServeSettings()
HOOK = "https://me/hook"
REQUEST = b'{"input":{"video_url":"https://x/v?sig=1"},"webhook":"https://me/hook"}'


def state(queue: JobQueue, job_id: str) -> State | None:
    """The job's state; None if it is not kept."""
    job = queue.get(job_id)
    return None if job is None else job.status


def take(queue: JobQueue, worker_id: str = "w", **more: object) -> None:
    """Submit job "a" and have a worker take it."""
    queue.submit("a", REQUEST, **more)  # type: ignore[arg-type]
    assert [job.id for job in queue.take(worker_id)] == ["a"]


def test_finished_job_tells_its_times_and_output(queue, clock):
    """DelayTime is the wait, executionTime the run, both in milliseconds."""
    queue.submit("a", REQUEST)
    clock.advance(2)
    queue.take("w")
    clock.advance(3)
    assert queue.finish("a", "w", b'{"n":1}')
    job = queue.get("a")
    document = job.status_document()
    expected = {"delayTime": 2000, "executionTime": 3000, "workerId": "w", "status": "COMPLETED"}
    assert document.items() >= expected.items()
    assert job.output == b'{"n":1}'
    assert "sig" not in repr(job), "a log line may show the record"


def test_silent_worker_loses_its_job_to_the_next(queue, clock):
    """Heartbeats keep the lease; without them the job returns to its place, before later ones."""
    queue.submit("a", REQUEST)
    queue.submit("b", REQUEST)
    queue.take("w1")
    clock.advance(9)
    assert queue.heartbeat("w1", ["a"]) == []
    clock.advance(9)
    queue.sweep()
    assert state(queue, "a") is State.IN_PROGRESS
    clock.advance(2)
    queue.sweep()
    assert state(queue, "a") is State.IN_QUEUE
    assert [job.id for job in queue.take("w2")] == ["a"]
    assert [Stop("w1", "a")] == queue.heartbeat("w1", ["a"])


def test_silent_worker_that_comes_back_keeps_a_job_nobody_took(queue, clock):
    """A suspended machine must not run a job twice: the heartbeat adopts it, and so does a result."""
    queue.submit("a", REQUEST)
    queue.submit("b", REQUEST)
    queue.take("w", 2)
    clock.advance(11)
    queue.sweep()
    assert not queue.finish("a", "w", None, "INTERNAL: x"), "the next worker decides"
    assert queue.heartbeat("w", ["a"]) == []
    assert state(queue, "a") is State.IN_PROGRESS
    assert queue.finish("b", "w", b"1")
    assert state(queue, "b") is State.COMPLETED


@pytest.mark.parametrize("how", ["release", "silence"])
def test_job_that_loses_every_worker_fails_with_a_code(queue, clock, how):
    """A job that kills its workers is given up after three of them."""
    queue.submit("a", REQUEST)
    for attempt in range(3):
        assert state(queue, "a") is State.IN_QUEUE, attempt
        queue.take(f"w{attempt}")
        if how == "release":
            queue.release(f"w{attempt}")
        else:
            clock.advance(11)
            queue.sweep()
    job = queue.get("a")
    assert job.status is State.FAILED
    assert (job.error or "").startswith("WORKER_LOST: 3 workers")
    assert job.output == b'{"error_code":"WORKER_LOST","retryable":false,"job_id":"a"}'
    assert [Stop("w2", "a")] == queue.heartbeat("w2", ["a"]), "it must not go on in vain"


def test_retry_runs_a_failed_job_again_as_if_new(queue):
    """Same id and input, no output or error, all its attempts again; only for FAILED and TIMED_OUT."""
    queue.submit("a", REQUEST)
    assert queue.retry("a") is None
    queue.take("w")
    assert queue.retry("a") is None
    queue.finish("a", "w", b'{"error_code":"X"}', "X: y")
    queue.submit("b", REQUEST)
    job = queue.retry("a")
    assert (job.status, job.output, job.error) == (State.IN_QUEUE, None, None)
    assert (job.attempts, job.retries) == (0, 1)
    assert [job.id for job in queue.take("w", 2)] == ["b", "a"], "it waits at the end"
    queue.finish("a", "w", b"2")
    assert queue.retry("a") is None


def test_execution_timeout_ends_a_run_but_not_a_wait(queue, clock):
    """TIMED_OUT with a coded error, and its worker must stop; heartbeats do not extend it."""
    queue.submit("a", REQUEST, execution_timeout_seconds=20)
    clock.advance(500)
    queue.sweep()
    assert state(queue, "a") is State.IN_QUEUE
    queue.take("w")
    for _ in range(3):
        clock.advance(7)
        queue.heartbeat("w", ["a"])
    assert [Stop("w", "a")] == queue.sweep()
    job = queue.get("a")
    assert (job.status, job.error) == (State.TIMED_OUT, "EXECUTION_TIMEOUT: the job ran longer than 20 s")
    assert [Stop("w", "a")] == queue.heartbeat("w", ["a"]), "told until it stops"


def test_ttl_deletes_a_job_that_waits_or_runs(queue, clock):
    """As on RunPod: gone, and its status unknown; the worker must stop."""
    queue.submit("a", REQUEST, ttl_seconds=15)
    queue.submit("b", REQUEST, ttl_seconds=15)
    queue.take("w")
    clock.advance(8)
    queue.heartbeat("w", ["a"])
    clock.advance(8)
    assert [Stop("w", "a")] == queue.sweep()
    assert [state(queue, "a"), state(queue, "b")] == [None, None]


def test_results_are_kept_for_their_time(queue, clock):
    """Results of runsync go earlier, none before its webhook was called; a time to live cuts none short."""
    queue.submit("sync", REQUEST, is_sync=True)
    queue.submit("run", REQUEST, ttl_seconds=10)
    queue.take("w", 2)
    queue.finish("sync", "w", b"1")
    queue.finish("run", "w", b"1")
    kept, gone = State.COMPLETED, None
    for seconds, states in ((59, [kept, kept]), (2, [gone, kept]), (138, [gone, kept]), (2, [gone, gone])):
        clock.advance(seconds)
        queue.sweep()
        assert [state(queue, "sync"), state(queue, "run")] == states
    queue.submit("a", REQUEST, webhook=HOOK)
    queue.take("w")
    queue.finish("a", "w", b"1")
    clock.advance(300)
    queue.sweep()
    (job,) = queue.claim_webhooks(9)
    queue.webhook_called(job, accepted=True)
    queue.sweep()
    assert state(queue, "a") is None


def test_queue_outlives_its_process(tmp_path, clock):
    """Closed without warning and opened again, it knows every job, lease and webhook."""
    path = tmp_path / "queue.sqlite3"
    first = JobQueue(path, SETTINGS, clock)
    first.submit("a", REQUEST)
    first.submit("b", REQUEST, webhook=HOOK)
    first.take("w1")
    first.take("w2")
    first.finish("b", "w2", b"1")
    second = JobQueue(path, SETTINGS, clock)  # the first was never closed, as after a kill
    clock.advance(40)
    second.renew_leases()
    second.sweep()
    assert [job.id for job in second.claim_webhooks(9)] == ["b"]
    assert second.finish("a", "w1", b"2"), "its worker lived on and delivers"
    assert second.counts()["completed"] == 2
    first.close()
    second.close()


def test_queue_file_is_private(queue, tmp_path):
    """Requests hold presigned URLs."""
    queue.submit("a", REQUEST)
    assert [path.name for path in tmp_path.iterdir() if path.stat().st_mode & 0o077] == []


def test_foreign_file_is_refused_in_plain_words(tmp_path):
    """A file that is no queue is not written to; one of another version is not used."""
    path, content = (
        tmp_path / "queue.sqlite3",
        b"not a database at all, but long enough to be read as one" * 99,
    )
    path.write_bytes(content)
    with pytest.raises(CannotServe, match=r"queue\.sqlite3"):
        JobQueue(path, SETTINGS)
    assert path.read_bytes() == content
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(CannotServe, match=r"queue\.sqlite3 .* another version"):
        JobQueue(path, SETTINGS)


def test_webhook_about_an_earlier_ending_does_not_silence_the_next(queue, clock):
    """A slow call about the first failure returns after the job was retried and failed again."""
    take(queue, webhook=HOOK)
    queue.finish("a", "w", None, "X: y")
    (first,) = queue.claim_webhooks(9)
    queue.retry("a")
    assert queue.claim_webhooks(9) == []
    clock.advance(1)
    queue.take("w")
    queue.finish("a", "w", b"1")
    queue.webhook_called(first, accepted=True)
    assert [job.status for job in queue.claim_webhooks(9)] == [State.COMPLETED]


def test_counts_are_those_of_health(queue):
    """Completed, failed and retried are totals; the others are now."""
    for name in "abcd":
        queue.submit(name, REQUEST)
    queue.take("w", 3)
    queue.finish("a", "w", b"1")
    queue.finish("b", "w", None, "X: y")
    queue.release("w")
    assert queue.counts() == {"completed": 1, "failed": 1, "retried": 1, "inQueue": 2, "inProgress": 0}
