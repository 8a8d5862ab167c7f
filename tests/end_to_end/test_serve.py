"""The endpoint on one machine with the worker loop of RunPod's real SDK, all as separate processes."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.end_to_end.endpoint_process import EndpointProcess, serving, starts, wait_until
from tests.end_to_end.webhook_receiver import webhook_receiver

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointProcess]:
    """Two workers, which all tests here share."""
    with serving(tmp_path_factory.mktemp("serve") / "data", 2) as endpoint:
        endpoint.wait_for_workers(2)
        yield endpoint


@pytest.fixture(autouse=True)
def _all_workers_free(endpoint: EndpointProcess) -> Iterator[None]:
    """No test leaves a job behind for the next."""
    yield
    endpoint.call("POST", "purge-queue")
    wait_until(lambda: endpoint.health()["workers"]["idle"] == 2)


def test_job_runs_and_its_status_holds_the_result(endpoint: EndpointProcess) -> None:
    """IN_QUEUE at once, then COMPLETED with output, times and the worker's id."""
    document = endpoint.wait(endpoint.run(number=7))
    assert document["status"] == "COMPLETED"
    assert document["output"]["echo"] == {"number": 7}
    assert document["workerId"] == document["output"]["worker"]
    assert document["delayTime"] >= 0
    assert document["executionTime"] > 0
    assert "error" not in document


def test_progress_is_the_output_while_the_job_runs(endpoint: EndpointProcess) -> None:
    """Updates come in order, the result last, and no late update re-opens the job."""
    job_id = endpoint.run(steps=5, step_seconds=0.25)
    seen = []

    def is_over() -> bool:
        document = endpoint.status(job_id)
        if document["status"] == "IN_PROGRESS" and document.get("output") not in [None, *seen]:
            seen.append(document["output"])
        return document["status"] == "COMPLETED"

    wait_until(is_over)
    steps = [output["step"] for output in seen]
    assert steps == sorted(steps)
    assert len(steps) >= 2
    time.sleep(0.3)  # in which a late update would come
    assert endpoint.status(job_id)["output"]["echo"]["steps"] == 5


def test_runsync_answers_with_the_result(endpoint: EndpointProcess) -> None:
    """One request, one result."""
    document = endpoint.call("POST", "runsync", {"input": {"x": 1}}).json()
    assert document["status"] == "COMPLETED"
    assert document["id"].startswith("sync-")
    assert document["output"]["echo"] == {"x": 1}


def test_runsync_answers_in_time_when_the_job_takes_longer(endpoint: EndpointProcess) -> None:
    """After `wait` the answer is the job as it is, to be asked for by /status."""
    document = endpoint.call("POST", "runsync?wait=1000", {"input": {"sleep": 2}}).json()
    assert document["status"] == "IN_PROGRESS"
    assert endpoint.wait(document["id"])["status"] == "COMPLETED"


def test_failed_job_keeps_error_and_details(endpoint: EndpointProcess) -> None:
    """`error` is the worker's string; the other keys ride in `output`; retry runs it again."""
    reply = {"error": "INPUT_INVALID: no", "error_code": "INPUT_INVALID", "retryable": False}
    job_id = endpoint.run(reply=reply)
    document = endpoint.wait(job_id)
    assert (document["status"], document["error"]) == ("FAILED", "INPUT_INVALID: no")
    assert document["output"] == {"error_code": "INPUT_INVALID", "retryable": False}
    assert endpoint.call("POST", f"retry/{job_id}").json() == {"id": job_id, "status": "IN_QUEUE"}
    again = endpoint.wait(job_id)
    assert (again["status"], again["retries"]) == ("FAILED", 1)


def test_unserialisable_result_is_a_failure_not_a_hang(endpoint: EndpointProcess) -> None:
    """NaN is no JSON: the SDK drops the refused result, so the endpoint ends the job."""
    document = endpoint.wait(endpoint.run(nan=True))
    assert document["status"] == "FAILED"
    assert document["error"].startswith("RESULT_INVALID")


def test_cancel_ends_a_running_job_and_frees_its_worker(endpoint: EndpointProcess, tmp_path: Path) -> None:
    """The SDK cancels the handler's task; its late result is not kept; the worker takes the next job."""
    started = tmp_path / "started"
    job_id = endpoint.run(started=str(started), sleep=60)
    wait_until(lambda: starts(started))
    assert endpoint.call("POST", f"cancel/{job_id}").json() == {"id": job_id, "status": "CANCELLED"}
    assert endpoint.call("POST", f"cancel/{job_id}").json()["status"] == "CANCELLED"
    wait_until(lambda: endpoint.health()["workers"]["idle"] == 2)
    assert endpoint.wait(endpoint.run(x=1))["status"] == "COMPLETED"
    assert endpoint.status(job_id)["status"] == "CANCELLED"
    assert "output" not in endpoint.status(job_id)


def test_cancel_that_the_sdk_drops_is_repeated(endpoint: EndpointProcess, tmp_path: Path) -> None:
    """Right after the take the SDK has no task to cancel; it is told again, and its worker need not go."""
    release, num_ended = tmp_path / "release", endpoint.log.read_text().count("a worker ended")
    with httpx2.Client() as client:  # quick, with a connection of its own
        job_id = endpoint.run(sleep=60)
        while client.get(f"{endpoint.url}/status/{job_id}").json()["status"] == "IN_QUEUE":
            time.sleep(0.002)
        client.post(f"{endpoint.url}/cancel/{job_id}")
    after = [endpoint.run(release=str(release)) for _ in range(2)]
    for job_id in after:
        endpoint.wait(job_id, "IN_PROGRESS")  # both workers are free again
    release.touch()
    assert [endpoint.wait(job_id)["status"] for job_id in after] == ["COMPLETED"] * 2
    assert endpoint.log.read_text().count("a worker ended") == num_ended


def test_cancel_and_purge_end_waiting_jobs(endpoint: EndpointProcess, tmp_path: Path) -> None:
    """Neither ever starts; running jobs go on."""
    release = tmp_path / "release"
    running = [endpoint.run(release=str(release)) for _ in range(2)]
    for job_id in running:
        endpoint.wait(job_id, "IN_PROGRESS")
    waiting = [endpoint.run(started=str(tmp_path / "never")) for _ in range(3)]
    assert endpoint.call("POST", f"cancel/{waiting[0]}").json()["status"] == "CANCELLED"
    assert endpoint.call("POST", "purge-queue").json() == {"removed": 2, "status": "completed"}
    release.touch()
    assert [endpoint.wait(job_id)["status"] for job_id in running] == ["COMPLETED"] * 2
    assert [endpoint.status(job_id)["status"] for job_id in waiting] == ["CANCELLED"] * 3
    assert not (tmp_path / "never").exists()


def test_burst_is_shared_by_both_workers(endpoint: EndpointProcess, tmp_path: Path) -> None:
    """Six jobs at once: two run while four wait, and each runs exactly once."""
    started, release = tmp_path / "started", tmp_path / "release"
    job_ids = [endpoint.run(index=index, started=str(started), release=str(release)) for index in range(6)]
    wait_until(lambda: len(starts(started)) == 2)
    assert len({worker for worker, _ in starts(started)}) == 2
    assert [endpoint.status(job_id)["status"] for job_id in job_ids].count("IN_QUEUE") == 4
    release.touch()
    documents = [endpoint.wait(job_id) for job_id in job_ids]
    assert [document["output"]["echo"]["index"] for document in documents] == list(range(6))
    assert len(starts(started)) == 6
    assert not any("retries" in document for document in documents)


def test_killed_worker_loses_its_job_to_the_next(endpoint: EndpointProcess, tmp_path: Path) -> None:
    """SIGKILL mid-job: the job goes back to the queue, another worker finishes it, a new worker starts."""
    started, release = tmp_path / "started", tmp_path / "release"
    job_id = endpoint.run(started=str(started), release=str(release))
    ((victim, pid),) = wait_until(lambda: starts(started))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(starts(started)) == 2)
    release.touch()
    document = endpoint.wait(job_id)
    assert (document["status"], document["retries"]) == ("COMPLETED", 1)
    assert document["workerId"] != victim
    endpoint.wait_for_workers(2)


@pytest.mark.slow
def test_job_that_kills_its_workers_is_given_up(endpoint: EndpointProcess) -> None:
    """After three workers it fails with a coded error; jobs after it run."""
    document = endpoint.wait(endpoint.run(die=True))
    assert (document["status"], document["retries"]) == ("FAILED", 2)
    assert document["error"].startswith("WORKER_LOST: 3 workers")
    assert endpoint.wait(endpoint.run(x=1))["status"] == "COMPLETED"


@pytest.mark.slow
def test_worker_that_asks_to_be_replaced_is(endpoint: EndpointProcess) -> None:
    """`refresh_worker` in a result: the result is kept, and its process is never given another job."""
    document = endpoint.wait(endpoint.run(reply={"done": 1, "refresh_worker": True}))
    assert document["output"] == {"done": 1}
    used = document["workerId"]
    after = [endpoint.run(sleep=0.3) for _ in range(4)]
    assert used not in {endpoint.wait(job_id)["workerId"] for job_id in after}
    endpoint.wait_for_workers(2)


def test_webhook_is_called_with_the_status_document(endpoint: EndpointProcess) -> None:
    """Once for a receiver that answers 200; with input, output and the webhook itself; also for failures."""
    with webhook_receiver() as receiver:
        good = endpoint.submit({"input": {"x": 1}, "webhook": f"{receiver.url}/hook?token=t0ps3cret"})
        bad = endpoint.submit({"input": {"reply": {"error": "X: y"}}, "webhook": f"{receiver.url}/hook"})
        bodies = {body["id"]: body for body in wait_until(lambda: receiver.bodies[1:] and receiver.bodies)}
    assert bodies[good]["status"] == "COMPLETED"
    assert bodies[good]["input"] == {"x": 1}
    assert bodies[good]["output"]["echo"] == {"x": 1}
    assert bodies[good]["webhook"] == f"{receiver.url}/hook?token=t0ps3cret"
    assert {"delayTime", "executionTime"} <= set(bodies[good])
    assert (bodies[bad]["status"], bodies[bad]["error"]) == ("FAILED", "X: y")
    assert set(receiver.paths) == {"/hook?token=t0ps3cret", "/hook"}
    assert "t0ps3cret" not in endpoint.log.read_text()


def test_webhook_is_called_again_until_it_answers_200(endpoint: EndpointProcess) -> None:
    """Two failures, then success: three calls in all, of the same document."""
    with webhook_receiver(answers=[500, 302, 200]) as receiver:
        endpoint.submit({"input": {}, "webhook": f"{receiver.url}/hook"})
        wait_until(lambda: len(receiver.bodies) == 3)
        time.sleep(0.6)  # three intervals, in which a fourth call would come
        assert len(receiver.bodies) == 3
    assert receiver.bodies[0] == receiver.bodies[2]


def test_sdk_client_understands_the_endpoint(
    endpoint: EndpointProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RunPod's own Python client runs, waits, streams, cancels, and reads health, as against RunPod."""
    import runpod

    base, name = endpoint.url.rsplit("/", 1)
    monkeypatch.setattr(runpod, "endpoint_url_base", base)
    client = runpod.Endpoint(name, api_key="any")
    assert client.run_sync({"input": {"x": 1}}, timeout=30)["echo"] == {"x": 1}
    job = client.run({"input": {"x": 2}})
    assert job.output(timeout=30)["echo"] == {"x": 2}
    assert list(job.stream()) == []
    sleeper = client.run({"input": {"sleep": 60}})
    assert sleeper.cancel()["status"] == "CANCELLED"
    assert client.health()["workers"]["ready"] == 2
    assert client.purge_queue() == {"removed": 0, "status": "completed"}
