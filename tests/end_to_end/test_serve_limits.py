"""Time limits and keys of the endpoint, with RunPod's real SDK."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.endpoint_process import EndpointProcess, serving, wait_until

pytestmark = pytest.mark.timeout(120)
KEY = {"Authorization": "Bearer open-sesame"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointProcess]:
    """One worker, a key, and a short time for each job."""
    data = tmp_path_factory.mktemp("serve") / "data"
    settings = {"SERVE_API_KEY": "open-sesame", "SERVE_EXECUTION_TIMEOUT_SECONDS": "2"}
    with serving(data, 1, **settings, SERVE_TTL_SECONDS="30") as endpoint:
        wait_until(lambda: endpoint.call("GET", "health", headers=KEY).json()["workers"]["ready"] == 1)
        yield endpoint


def test_nobody_gets_in_without_the_key(endpoint: EndpointProcess) -> None:
    """Callers need theirs and workers theirs; with or without `Bearer`; RunPod answers 401 too."""
    assert endpoint.call("GET", "health").status_code == 401
    assert endpoint.call("GET", "health", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert endpoint.call("GET", "health", headers={"Authorization": "open-sesame"}).status_code == 200
    assert endpoint.call("GET", "job-take/w?gpu=x", headers=KEY).status_code == 401
    worker_key = (endpoint.data / "worker.key").read_text()
    ping = endpoint.call("GET", "ping/w?gpu=x", headers={"Authorization": worker_key})
    assert ping.status_code == 200


@pytest.mark.slow
def test_job_that_runs_too_long_is_timed_out_and_its_worker_replaced(endpoint: EndpointProcess) -> None:
    """A plain handler blocks the SDK's loop and cannot be stopped: its process is ended instead."""

    def submit(**input_: Any) -> str:
        job_id: str = endpoint.call("POST", "run", {"input": input_}, headers=KEY).json()["id"]
        return job_id

    def ended(job_id: str, state: str) -> dict[str, object] | None:
        document: dict[str, object] = endpoint.call("GET", f"status/{job_id}", headers=KEY).json()
        return document if document["status"] == state else None

    job_id = submit(block=600)
    document = wait_until(lambda: ended(job_id, "TIMED_OUT"))
    assert document["error"] == "EXECUTION_TIMEOUT: the job ran longer than 2 s"
    after = submit()
    assert wait_until(lambda: ended(after, "COMPLETED"))["workerId"] != document["workerId"]
