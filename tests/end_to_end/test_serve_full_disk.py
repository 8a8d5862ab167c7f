"""A running endpoint whose disk takes nothing more: files of the process may not grow (RLIMIT_FSIZE)."""

import os
import resource
import signal
import sys
from pathlib import Path

import pytest

from tests.end_to_end.endpoint_process import serving, starts, wait_until

pytestmark = [
    pytest.mark.slow,  # test_full_disk.py beside the queue's tests shows the same in parts
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="limits of another process"),
]


def limit(pid: int, num_bytes: int) -> None:
    """From now on no file of this process grows beyond so many bytes: not the queue, not the log."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))


def test_endpoint_survives_a_full_disk(tmp_path: Path) -> None:
    """A worker ends with a job meanwhile: callers hear 503, and with room again the job runs to its end."""
    started, release = tmp_path / "started", tmp_path / "release"
    with serving(tmp_path / "data", 1) as endpoint:
        assert endpoint.process is not None
        job_id = endpoint.run(started=str(started), release=str(release))
        ((_, pid),) = wait_until(lambda: starts(started))
        limit(endpoint.process.pid, 0)
        os.kill(pid, signal.SIGKILL)
        reply = endpoint.call("POST", "run", {"input": {}})
        assert (reply.status_code, reply.json()) == (503, {"error": "the queue cannot be written now"})
        wait_until(lambda: endpoint.health()["workers"]["initializing"] == 1)  # it was started again
        assert endpoint.status(job_id)["status"] == "IN_PROGRESS"
        limit(endpoint.process.pid, resource.RLIM_INFINITY)
        release.touch()
        document = endpoint.wait(job_id)
        assert (document["status"], document["retries"]) == ("COMPLETED", 1)
        assert endpoint.wait(endpoint.run(x=1))["status"] == "COMPLETED"
