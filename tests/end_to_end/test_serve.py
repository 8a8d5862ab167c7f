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
    with serving(tmp_path_factory.mktemp("serve") / "data", 2, MODELS="official") as endpoint:
        endpoint.wait_for_workers(2)
        yield endpoint


@pytest.fixture(autouse=True)
def _all_workers_free(endpoint: EndpointProcess) -> Iterator[None]:
    """No test leaves a job behind for the next."""
    yield
    endpoint.call("POST", "purge-queue")
    wait_until(lambda: endpoint.health()["workers"]["idle"] == 2)


def test_job_runs_and_is_answered_with_its_result(endpoint: EndpointProcess) -> None:
    """COMPLETED with output and times; what `serve` was told comes before the environment."""
    document = endpoint.call("POST", "runsync", {"input": {"number": 7}}).json()
    assert document["id"].startswith("sync-")
    assert document["status"] == "COMPLETED"
    assert document["output"]["echo"] == {"number": 7}
    assert document["output"]["models"] == "lite"
    assert document["workerId"] == document["output"]["worker"]
    assert document["delayTime"] >= 0
    assert document["executionTime"] > 0
    assert "error" not in document
    document = endpoint.wait(endpoint.run(nan=True))  # no JSON: the SDK drops the refused result
    assert (document["status"], document["error"].split(":")[0]) == ("FAILED", "RESULT_INVALID")


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
    assert {document["output"]["gpu"] for document in documents} == {"a", "b"}
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
