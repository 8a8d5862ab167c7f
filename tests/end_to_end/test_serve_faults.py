"""The endpoint is killed, stopped, without room on its disk, or faced with jobs that never end."""

import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from ops.endpoint.supervise import birth
from tests.end_to_end.endpoint_process import serving, starts
from tests.end_to_end.webhook_receiver import webhook_receiver
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(120)


def test_killed_endpoint_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL of everything at once: queued and running jobs finish after a start, and no process is left."""
    started, release = tmp_path / "started", tmp_path / "release"
    with webhook_receiver() as receiver, serving(tmp_path / "data", 1) as endpoint:
        job_ids = [
            endpoint.submit({"input": input_, "webhook": f"{receiver.url}/hook"})
            for input_ in ({"started": str(started), "release": str(release)}, {"x": 1}, {"x": 2})
        ]
        ((_, pid),) = wait_until(lambda: starts(started))
        endpoint.kill()
        os.kill(pid, signal.SIGKILL)
        release.touch()
        endpoint.start()
        documents = [endpoint.wait(job_id) for job_id in job_ids]
        assert [document["status"] for document in documents] == ["COMPLETED"] * 3
        assert documents[0]["retries"] == 1
        wait_until(lambda: len({body["id"] for body in receiver.bodies}) == 3)
        assert len(starts(started)) == 2
        assert birth(pid) is None


@pytest.mark.slow
def test_worker_of_a_killed_endpoint_delivers_to_the_next(tmp_path: Path) -> None:
    """The worker is told to end, finishes its job first, and the endpoint that is back keeps the result."""
    with serving(tmp_path / "data", 1, SERVE_STOP_SECONDS="20") as endpoint:
        job_id, worker, pid, release = endpoint.hold(tmp_path)
        endpoint.kill()
        endpoint.start()
        assert endpoint.status(job_id)["status"] == "IN_PROGRESS"
        release.touch()
        document = endpoint.wait(job_id)
        assert (document["status"], document["workerId"]) == ("COMPLETED", worker)
        assert len(starts(tmp_path / "started")) == 1, "it ran once"
        wait_until(lambda: birth(pid) is None)


@pytest.mark.slow
def test_stopped_endpoint_leaves_its_queue_in_order(tmp_path: Path) -> None:
    """SIGTERM: exit 0 in time, the unfinished job back in the queue without a mark against it."""
    with serving(tmp_path / "data", 1, SERVE_STOP_SECONDS="0.5") as endpoint:
        job_id, _, pid, release = endpoint.hold(tmp_path)
        assert endpoint.stop() == 0
        assert birth(pid) is None
        release.touch()
        endpoint.start()
        document = endpoint.wait(job_id)
        assert (document["status"], document["retries"]) == ("COMPLETED", 1)


@pytest.mark.slow  # test_full_disk.py beside the queue's tests shows the same in parts
@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_endpoint_survives_a_full_disk(tmp_path: Path) -> None:
    """A worker ends with a job meanwhile: callers hear 503, and with room again the job runs to its end."""
    with serving(tmp_path / "data", 1) as endpoint:
        assert endpoint.process is not None
        job_id, _, pid, release = endpoint.hold(tmp_path)
        # No file of the endpoint may grow from now on: not the queue, not the log.
        resource.prlimit(endpoint.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        os.kill(pid, signal.SIGKILL)
        reply = endpoint.call("POST", "run", {"input": {}})
        assert (reply.status_code, reply.json()) == (503, {"error": "the queue cannot be written now"})
        wait_until(lambda: endpoint.health()["workers"]["initializing"] == 1)  # it was started again
        assert endpoint.status(job_id)["status"] == "IN_PROGRESS"
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(endpoint.process.pid, resource.RLIMIT_FSIZE, unlimited)
        release.touch()
        document = endpoint.wait(job_id)
        assert (document["status"], document["retries"]) == ("COMPLETED", 1)
        assert endpoint.wait(endpoint.run(x=1))["status"] == "COMPLETED"
