"""A real worker process, the SDK's own loop included, against a fake queue."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.fake_queue import FakeQueue

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0  # importing the SDK takes seconds on a busy machine


class WorkerProcess:
    """`python -m tests.contract.stub_worker` with its output in a file."""

    def __init__(self, queue: FakeQueue, folder: Path, *arguments: str, **environment: str) -> None:
        self.queue = queue
        self.scratch = folder / "scratch"
        self.output = folder / "output.txt"
        self._file = self.output.open("wb")
        home = folder / "home"  # a saved key of the RunPod CLI would win over the environment's
        home.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.stub_worker", *arguments],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],  # noqa: TID251 - a child of the test
                "HOME": str(home),
                "WORKER_SCRATCH": str(self.scratch),
                "WORKER_PROGRESS_INTERVAL_SECONDS": "0.05",
                "OMP_NUM_THREADS": "1",
                **queue.environment(),
                **environment,
            },
            stdout=self._file,
            stderr=subprocess.STDOUT,
        )

    def ready(self) -> "WorkerProcess":
        """Wait until it asks for a job."""
        self.queue.wait(lambda: self.queue.open["job-take"], START_SECONDS)
        return self

    def terminate(self) -> None:
        """What the platform does."""
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self, seconds: float = 15.0) -> int:
        """Wait until the process is gone."""
        return self.process.wait(seconds)

    def jobs_left(self) -> list[Path]:
        """Temporary folders of jobs."""
        return list(self.scratch.glob("worker-*/job-*"))

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(10)
        self._file.close()


@pytest.fixture(scope="module")
def queue() -> Iterator[FakeQueue]:
    """One queue for the tests of a file that share a worker."""
    with FakeQueue() as fake:
        yield fake


@pytest.fixture(scope="module")
def worker(queue: FakeQueue, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """A worker that outlives its jobs."""
    with WorkerProcess(queue, tmp_path_factory.mktemp("worker"), WORKER_STALL_SECONDS="60") as process:
        yield process.ready()


@pytest.fixture
def own_worker(tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker for one test that ends it."""
    limits = {"WORKER_SHUTDOWN_SECONDS": "2", "WORKER_STALL_SECONDS": "2"}
    with FakeQueue() as fake, WorkerProcess(fake, tmp_path, **limits) as process:
        yield process.ready()
