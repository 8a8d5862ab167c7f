"""The endpoint on one machine with the worker loop of RunPod's real SDK, all as separate processes."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.end_to_end.endpoint_process import EndpointProcess, serving, starts
from tests.waiting import wait_until

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


@pytest.mark.parametrize("call", ["run", "runsync"])
def test_job_runs_and_its_status_holds_the_result(endpoint: EndpointProcess, call: str) -> None:
    """COMPLETED with output, times and the worker's id; runsync answers with it."""
    document = endpoint.call("POST", call, {"input": {"number": 7}}).json()
    assert document["id"].startswith("sync-") == (call == "runsync")
    if call == "run":
        document = endpoint.wait(document["id"])
    assert document["status"] == "COMPLETED"
    assert document["output"]["echo"] == {"number": 7}
    assert document["workerId"] == document["output"]["worker"]
    assert document["delayTime"] >= 0
    assert document["executionTime"] > 0
    assert "error" not in document


def test_progress_is_the_output_while_the_job_runs(endpoint: EndpointProcess) -> None:
    """Updates come in order, then the result."""
    job_id = endpoint.run(steps=5)
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
    assert endpoint.status(job_id)["output"]["echo"]["steps"] == 5


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
    job_id, *_ = endpoint.hold(tmp_path)
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
            pass
        client.post(f"{endpoint.url}/cancel/{job_id}")
    after = [endpoint.run(release=str(release)) for _ in range(2)]
    for job_id in after:
        endpoint.wait(job_id, "IN_PROGRESS")  # both workers are free again
    release.touch()
    assert [endpoint.wait(job_id)["status"] for job_id in after] == ["COMPLETED"] * 2
    assert endpoint.log.read_text().count("a worker ended") == num_ended


def test_waiting_jobs_are_cancelled_or_run_once(endpoint: EndpointProcess, tmp_path: Path) -> None:
    """Two jobs run, others wait: what is cancelled or purged never starts; each other one runs once."""
    started, release = tmp_path / "started", tmp_path / "release"

    def burst(*indices: int) -> list[str]:
        return [endpoint.run(index=i, started=str(started), release=str(release)) for i in indices]

    job_ids = burst(0, 1)
    wait_until(lambda: len(starts(started)) == 2)
    assert len({worker for worker, _ in starts(started)}) == 2
    never = burst(7, 8, 9)
    assert endpoint.call("POST", f"cancel/{never[0]}").json()["status"] == "CANCELLED"
    assert endpoint.call("POST", "purge-queue").json() == {"removed": 2, "status": "completed"}
    job_ids += burst(2, 3, 4, 5)
    assert [endpoint.status(job_id)["status"] for job_id in job_ids[2:]] == ["IN_QUEUE"] * 4
    release.touch()
    documents = [endpoint.wait(job_id) for job_id in job_ids]
    assert [document["output"]["echo"]["index"] for document in documents] == list(range(6))
    assert [endpoint.status(job_id)["status"] for job_id in never] == ["CANCELLED"] * 3
    assert len(starts(started)) == 6
    assert not any("retries" in document for document in documents)


@pytest.mark.slow
def test_worker_that_asks_to_be_replaced_is(endpoint: EndpointProcess) -> None:
    """`refresh_worker` in a result: the result is kept, and its process is never given another job."""
    document = endpoint.wait(endpoint.run(reply={"done": 1, "refresh_worker": True}))
    assert document["output"] == {"done": 1}
    used = document["workerId"]
    after = [endpoint.run(sleep=0.3) for _ in range(4)]
    assert used not in {endpoint.wait(job_id)["workerId"] for job_id in after}
    endpoint.wait_for_workers(2)


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
