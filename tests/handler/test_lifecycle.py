"""When a worker process ends, by a clock of the test's own."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from handler import lifecycle
from handler.handler import Handler
from handler.lifecycle import Lifecycle
from handler.logs import Redactor
from handler.scratch import Scratch
from handler.settings import WorkerSettings

PLATFORM_GRACE_SECONDS = 10.0  # what RunPod is taken to allow between SIGTERM and SIGKILL


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The handlers of the tests' own process, put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # instead of the SDK's
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the end is an exception
@pytest.mark.parametrize("job_ends_after", [0.5, 5.5, 60.0], ids=["soon", "when stopped", "never"])
def test_busy_worker_ends_within_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job_ends_after: float
) -> None:
    """All waits together are `WORKER_SHUTDOWN_SECONDS`, well below the platform's grace, whatever a job does.

    The job may finish in most of them, and is stopped while there is time to clean up.
    """
    now, stopped_at, codes = [0.0], [], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def end(code: int) -> None:
        codes.append(code)
        raise SystemExit

    monkeypatch.setattr(lifecycle.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(lifecycle.time, "sleep", sleep)
    monkeypatch.setattr(lifecycle.os, "_exit", end)
    settings, scratch = WorkerSettings(), Scratch(tmp_path)
    handler = Handler(
        lambda work: pytest.fail("no job"), settings=settings, scratch=scratch, redactor=Redactor()
    )
    monkeypatch.setattr(handler, "stop", lambda *reason: stopped_at.append(now[0]))
    ending = Lifecycle(
        handler,
        num_jobs=lambda: int(now[0] < job_ends_after),
        shutdown_seconds=settings.shutdown_seconds,
        clean_up=scratch.close,
    )

    assert ending.concurrency(1) == 1
    os.kill(os.getpid(), signal.SIGTERM)
    for thread in threading.enumerate():
        if thread.name == "shutdown":
            thread.join(30)

    assert codes == [0]
    assert now[0] == pytest.approx(min(job_ends_after, settings.shutdown_seconds), abs=0.06)
    assert settings.shutdown_seconds <= 0.75 * PLATFORM_GRACE_SECONDS
    assert stopped_at == ([] if job_ends_after < 5 else [pytest.approx(5.25)])
    assert not scratch.folder.exists()
