"""Time limits, keys and streams of the endpoint, with a generator on RunPod's real SDK."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.endpoint_process import EndpointProcess, serving, wait_until

pytestmark = pytest.mark.timeout(120)
KEY = {"Authorization": "Bearer open-sesame"}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointProcess]:
    """One worker with a generator handler, a key, and a short time for each job."""
    data = tmp_path_factory.mktemp("serve") / "data"
    settings = {"SERVE_API_KEY": "open-sesame", "SERVE_EXECUTION_TIMEOUT_SECONDS": "2"}
    with serving(data, 1, GENERATOR="1", **settings, SERVE_TTL_SECONDS="30") as endpoint:
        wait_until(lambda: endpoint.call("GET", "health", headers=KEY).json()["workers"]["ready"] == 1)
        yield endpoint


def submit(endpoint: EndpointProcess, policy: dict[str, int] | None = None, **input_: Any) -> str:
    """Submit a job with the key."""
    request = {"input": input_, "policy": policy or {}}
    job_id: str = endpoint.call("POST", "run", request, headers=KEY).json()["id"]
    return job_id


def test_nobody_gets_in_without_the_key(endpoint: EndpointProcess) -> None:
    """Callers need theirs and workers theirs; with or without `Bearer`; RunPod answers 401 too."""
    assert endpoint.call("GET", "health").status_code == 401
    assert endpoint.call("GET", "health", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert endpoint.call("GET", "health", headers={"Authorization": "open-sesame"}).status_code == 200
    assert endpoint.call("GET", "job-take/w?gpu=x", headers=KEY).status_code == 401
    worker_key = (endpoint.data / "worker.key").read_text()
    ping = endpoint.call("GET", "ping/w?gpu=x", headers={"Authorization": worker_key})
    assert ping.status_code == 200


def test_parts_of_a_generator_are_streamed(endpoint: EndpointProcess, tmp_path: Path) -> None:
    """Each part is handed out once, in order, the first before there are more; the output holds all."""
    release = tmp_path / "release"
    job_id = submit(endpoint, {"executionTimeout": 60_000}, parts=8, part_seconds=0, release=str(release))
    parts: list[int] = []

    def is_over() -> bool:
        document = endpoint.call("GET", f"stream/{job_id}", headers=KEY).json()
        parts.extend(part["output"]["part"] for part in document["stream"])
        return document["status"] == "COMPLETED" and not document["stream"]

    wait_until(lambda: is_over() or parts)
    assert parts == [0]
    release.touch()
    wait_until(is_over)
    assert parts == list(range(8))
    output = endpoint.call("GET", f"status/{job_id}", headers=KEY).json()["output"]
    assert output == [{"part": index} for index in range(8)]


@pytest.mark.slow
def test_job_that_runs_too_long_is_timed_out_and_its_worker_replaced(endpoint: EndpointProcess) -> None:
    """A plain handler blocks the SDK's loop and cannot be stopped: its process is ended instead."""
    job_id = submit(endpoint, parts=1, part_seconds=600)
    document = wait_until(lambda: _if(endpoint, job_id, "TIMED_OUT"))
    assert document["error"] == "EXECUTION_TIMEOUT: the job ran longer than 2 s"
    after = submit(endpoint, parts=1)
    assert wait_until(lambda: _if(endpoint, after, "COMPLETED"))["workerId"] != document["workerId"]


def _if(endpoint: EndpointProcess, job_id: str, state: str) -> dict[str, object] | None:
    document: dict[str, object] = endpoint.call("GET", f"status/{job_id}", headers=KEY).json()
    return document if document["status"] == state else None
