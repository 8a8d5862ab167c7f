"""Starts and talks to an endpoint that runs as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.waiting import WAIT_SECONDS, wait_until

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}


def starts(path: Path) -> list[tuple[str, int]]:
    """(worker id, process id) of each start that jobs of `sdk_worker` noted in a file."""
    if not path.exists():
        return []
    return [(line.split()[0], int(line.split()[1])) for line in path.read_text().splitlines()]


class EndpointProcess:
    """An endpoint over a data folder, which can be killed and started again on the same address.

    `{port}` in the arguments stands for the port.
    """

    def __init__(self, data: Path, arguments: list[str], **environment: str) -> None:
        self.data = data
        self.log = data.with_suffix(".log")
        self._arguments = arguments
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BUCKET_")}  # noqa: TID251 - the child's
        self._environment = {**inherited, "SERVE_STOP_SECONDS": "3", **environment}
        self._port = 0
        key = environment.get("SERVE_API_KEY")
        # No connection is kept, since the endpoint may be killed.
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=WAIT_SECONDS,
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "EndpointProcess":
        """Start it and wait until it answers."""
        settings = self.data / "client.env"
        settings.unlink(missing_ok=True)
        arguments = [argument.format(port=self._port) for argument in self._arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                arguments, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: (settings.exists() and settings.stat().st_size) or self._has_ended())
        self.client = dict(line.split("=", 1) for line in settings.read_text().splitlines())
        self.url = self.client["ENDPOINT_URL"]
        self._port = httpx2.URL(self.url).port or 0
        return self

    def __enter__(self) -> "EndpointProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def kill(self) -> None:
        """As a power cut would, for this process alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()  # no test leaves one behind

    def call(self, method: str, path: str, json: Any = None, **more: Any) -> httpx2.Response:
        """One request to the job API."""
        return self._http.request(method, f"{self.url}/{path}", json=json, **more)

    def run(self, **input_: Any) -> str:
        """Submit a job with this input; its id."""
        return self.submit({"input": input_})

    def hold(self, folder: Path) -> tuple[str, str, int, Path]:
        """Run a job until a file is there: the job's id, its worker, the worker's process and the file."""
        started, release = folder / "started", folder / "release"
        job_id = self.run(started=str(started), release=str(release))
        ((worker, pid),) = wait_until(lambda: starts(started))
        return job_id, worker, pid, release

    def submit(self, request: dict[str, Any]) -> str:
        """Submit a request; the job's id."""
        reply = self.call("POST", "run", request)
        assert reply.status_code == 200, reply.text
        assert reply.json()["status"] == "IN_QUEUE"
        job_id: str = reply.json()["id"]
        return job_id

    def status(self, job_id: str) -> dict[str, Any]:
        """A job's status document."""
        document: dict[str, Any] = self.call("GET", f"status/{job_id}").json()
        return document

    def wait(self, job_id: str, *states: str) -> dict[str, Any]:
        """A job's status document, once it is in one of these states (default: any final one)."""
        wanted = set(states) or FINAL

        def there() -> dict[str, Any] | None:
            document = self.status(job_id)
            assert document.get("status") in wanted | {"IN_QUEUE", "IN_PROGRESS"}, document
            return document if document["status"] in wanted else None

        found: dict[str, Any] = wait_until(there)
        return found

    def health(self) -> dict[str, Any]:
        """The health document."""
        document: dict[str, Any] = self.call("GET", "health").json()
        return document

    def wait_for_workers(self, count: int) -> None:
        """Until so many workers have asked for jobs."""
        wait_until(lambda: self.health()["workers"]["ready"] == count)

    def _has_ended(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return False


@contextmanager
def serving(
    data: Path, num_workers: int, worker: str = "tests.end_to_end.sdk_worker", **environment: str
) -> Iterator[EndpointProcess]:
    """An endpoint with workers of the tests; ended at the end."""
    script = "tests.end_to_end.serve_process"
    arguments = [sys.executable, "-m", script, str(data), "{port}", str(num_workers), worker]
    with EndpointProcess(data, arguments, **environment) as endpoint:
        yield endpoint.start()
