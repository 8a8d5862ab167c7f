"""A worker's process: its memory, imports, start and fitness, and its end by a clock of the test's own."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cpuinfo
import numpy as np
import pytest

from handler import lifecycle, worker
from handler.fitness import Unfit, check_bucket, check_decoding, check_folder, check_models, checks
from handler.handler import Handler
from handler.lifecycle import Lifecycle
from handler.logs import Redactor
from handler.scratch import Scratch
from handler.settings import BucketSettings, Settings, WorkerSettings
from model_cache.errors import DeviceFault
from model_cache.interfaces import People
from tests.fakes import FakeBody, FakeModels, FakePerception
from tests.handler.rig import before_frame, local_settings

# Ten frames of 6 MB come and go, eight times over; the first rounds only find out how much is needed.
FRAMES = """
import resource, sys
import numpy as np
from handler.process import tune_process
if sys.argv[1] == "tuned":
    tune_process()
faults = []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    frames = [np.ones(6 * 1024**2, np.uint8) for _ in range(10)]
    del frames
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(faults[4:]))
"""

# Forty short-lived threads, in pairs as in a job, allocate a frame each; how many arenas hold memory then?
THREADS = """
import ctypes, sys, threading
import numpy as np
from handler.process import tune_process
if sys.argv[1] == "tuned":
    tune_process()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
def work(barrier):
    frame = np.ones(100_000, np.uint8)
    barrier.wait()
for _ in range(4):
    barrier = threading.Barrier(10)
    threads = [threading.Thread(target=work, args=(barrier,)) for _ in range(10)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="glibc only")
@pytest.mark.parametrize(
    ("script", "measure", "limit"),
    [
        pytest.param(FRAMES, int, 4 * 10 * 6 * 1024**2 // 4096 / 10, id="freed pages are used again"),
        pytest.param(THREADS, lambda text: text.count("<heap nr="), 2, id="threads share few arenas"),
    ],
)
def test_tuned_process_uses_memory_again(script: str, measure: Callable[[str], int], limit: float) -> None:
    """Few page faults (a tenth of the frames' pages) and two arenas; more of both without tuning."""

    def measured(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", script, how], capture_output=True, text=True, check=True, timeout=60
        )
        return measure(done.stdout)

    assert measured("tuned") <= limit < measured("as it is")


IMPORT_ALL = """
import importlib, pkgutil, sys
for name in ("torch", "transformers", "onnxruntime"):
    sys.modules[name] = None  # importing it raises ImportError
import handler
names = [module.name for module in pkgutil.walk_packages(handler.__path__, "handler.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_handler_imports_no_torch():
    """All of `handler`, its command line too, can be imported where torch cannot."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT_ALL], capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 50


def test_sdk_is_imported_quiet_and_without_a_survey_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the clock takes a second and a process; DEBUG, the SDK's own level, would show whole jobs."""
    at_import = []
    real_import = worker.import_module

    def watched(name: str) -> object:
        if name != "runpod":
            return real_import(name)
        at_import.append((cpuinfo.get_cpu_info(), worker.os.environ["RUNPOD_LOG_LEVEL"]))
        return None

    monkeypatch.setattr(cpuinfo, "get_cpu_info", pytest.fail)
    monkeypatch.setattr(worker, "import_module", watched)
    monkeypatch.setattr(worker.logs, "configure", lambda *_: None)
    monkeypatch.setenv("RUNPOD_LOG_LEVEL", "")
    monkeypatch.delenv("RUNPOD_LOG_LEVEL")
    worker.prepare(Settings())

    assert at_import == [({}, "INFO")]


PLATFORM_GRACE_SECONDS = 10.0  # what RunPod is taken to allow between SIGTERM and SIGKILL


@pytest.fixture
def _signals() -> Iterator[None]:
    """The handlers of the tests' own process, put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # instead of the SDK's
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the end is an exception
@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("job_ends_after", [0.5, 5.5, 60.0], ids=["soon", "when stopped", "never"])
def test_busy_worker_ends_within_its_time(tmp_path, monkeypatch, job_ends_after) -> None:
    """All waits are `WORKER_SHUTDOWN_SECONDS` together; a job that goes on is stopped in time to clean up."""
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


def test_a_good_worker_passes_every_check(tmp_path: Path) -> None:
    """Loaded models, a writable folder and complete settings: nothing to complain about."""
    found = checks(FakeModels(), local_settings(tmp_path / "new"))

    names = ["models_answer", "scratch_has_room", "video_decodes", "bucket_is_complete"]
    assert [check.__name__ for check in found] == names
    for check in found:
        check()


class LosingPerception(FakePerception):
    """Answers for the first frame only."""

    def perceive(self, *arguments: object) -> list[People]:
        return super().perceive(*arguments)[:1]  # type: ignore[arg-type]


class NanBody(FakeBody):
    """Gives joints that are no numbers."""

    def joints(self, *arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first, second = super().joints(*arguments)
        return first * np.float32("nan"), second


@pytest.mark.parametrize(
    ("models", "error", "words"),
    [
        (FakeModels(perception=before_frame(0, DeviceFault("illegal access"))), DeviceFault, "illegal"),
        (FakeModels(perception=LosingPerception()), Unfit, "fewer images"),
        (FakeModels(body=NanBody()), Unfit, "body model"),
    ],
    ids=["device fault", "frame lost", "nan"],
)
def test_models_that_fail_are_noticed(models: FakeModels, error: type[Exception], words: str) -> None:
    """What the models raise comes out; two frames must give two answers, and joints are numbers."""
    with pytest.raises(error, match=words):
        check_models(models)


def test_scratch_must_be_writable_and_roomy(tmp_path: Path) -> None:
    """A folder that is no folder, and a disk below its reserve, are refused."""
    check_folder(tmp_path, 0)
    (tmp_path / "file").touch()
    with pytest.raises(Unfit, match="is not a folder"):
        check_folder(tmp_path / "file", 0)
    with pytest.raises(Unfit, match="the scratch folder cannot be written: No such file"):
        check_folder(Path("/proc/nowhere"), 0)
    with pytest.raises(Unfit, match="free"):
        check_folder(tmp_path, 1 << 60)


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({}, None),
        ({"name": "results", "access_key_id": "key", "secret_access_key": "secret"}, None),
        ({"name": "results"}, "set BUCKET_ACCESS_KEY_ID, BUCKET_SECRET_ACCESS_KEY as well"),
        ({"access_key_id": "key", "secret_access_key": "secret"}, "set BUCKET_NAME as well"),
        ({"endpoint_url": "https://s3.example.com"}, "BUCKET_NAME, "),
    ],
    ids=["none", "all", "name", "keys", "endpoint"],
)
def test_bucket_settings_are_all_there_or_none(fields: dict[str, str], missing: str | None) -> None:
    """Half a set of bucket settings is a mistake that no job should find out."""
    settings = BucketSettings.model_validate(fields)
    if missing is None:
        check_bucket(settings)
    else:
        with pytest.raises(Unfit, match=missing):
            check_bucket(settings)


def test_decoding_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check looks at what comes out of the decoder, and leaves no file behind."""
    check_decoding(tmp_path)
    assert list(tmp_path.iterdir()) == []

    from handler import fitness

    real = fitness.write_clip
    monkeypatch.setattr(fitness, "write_clip", lambda path, greys: real(path, [200 for _ in greys]))
    with pytest.raises(Unfit, match="was decoded to other pictures"):
        check_decoding(tmp_path)
