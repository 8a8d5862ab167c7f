"""The life line of a job: its control, its threads, its folder, its stages."""

import errno
import fcntl
import gc
import stat
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from handler.context import JobControl
from handler.errors import ComputeError, ErrorCode, JobError, SourceError, WorkerError
from handler.read_ahead import read_ahead
from handler.scratch import LOCK_NAME, Scratch
from handler.stage_timer import StageTimer
from model_cache.errors import DeviceFault, DeviceOutOfMemory, ModelOutputInvalid


def test_control_raises_the_first_reason_everywhere() -> None:
    """Once stopped, no other item is handed out, every check raises, and a later reason changes nothing."""
    control = JobControl(time_budget_seconds=60.0)
    items = control.watch(iter(range(10)))
    assert next(items) == 0
    control.stop(ErrorCode.CANCELLED, "first")
    control.stop(ErrorCode.STALLED, "second")

    with pytest.raises(WorkerError, match="CANCELLED: first"):
        next(items)
    for _ in range(2):
        with pytest.raises(WorkerError, match="CANCELLED: first"):
            control.check()


def test_control_has_a_budget_and_hears_the_pulse() -> None:
    """The budget counts from the start of the job, silence from the last check."""
    now = [0.0]
    control = JobControl(time_budget_seconds=10.0, clock=lambda: now[0])
    now[0] = 10.0
    assert control.silence_seconds() == 10.0
    control.check()
    assert control.silence_seconds() == 0.0
    now[0] = 10.1
    with pytest.raises(WorkerError, match="TIME_BUDGET_EXCEEDED"):
        control.check()


class Item:
    """Something a weak reference can watch."""


@pytest.mark.parametrize("depth", [1, 3])
def test_ahead_is_bounded(depth: int) -> None:
    """At most `depth` items are there that nobody has taken, and a taken one is not held."""
    alive: list[weakref.ref[Item]] = []
    most, made = 0, threading.Semaphore(0)

    def make() -> Item:
        nonlocal most
        item = Item()
        alive.append(weakref.ref(item))
        most = max(most, sum(ref() is not None for ref in alive))
        made.release()
        return item

    def items() -> Iterator[Item]:
        yield from (make() for _ in range(50))
        made.release(depth)

    with read_ahead(items(), depth=depth, name="test") as ahead:
        for _ in range(depth):
            assert made.acquire(timeout=30)
        for item in ahead:
            assert made.acquire(timeout=30)  # the thread has run ahead as far as it may
            taken = weakref.ref(item)
            del item
            assert taken() is None

    gc.collect()
    assert most <= depth + 1  # one more is in the hand of whoever takes them
    assert all(ref() is None for ref in alive)


def test_ahead_raises_where_the_items_are_taken() -> None:
    """An error of the source comes after the items that were made before it."""

    def make() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    taken: list[int] = []
    with read_ahead(make(), depth=5, name="test") as ahead, pytest.raises(ValueError, match="broken"):
        taken.extend(ahead)
    assert taken == [1]


def test_ahead_closes_its_source_and_ends_its_thread_when_left_early() -> None:
    """Leaving runs the source's `finally`, and no thread is left."""
    closed = threading.Event()

    def make() -> Iterator[int]:
        try:
            index = 0
            while True:
                yield (index := index + 1)
        finally:
            closed.set()

    before = threading.active_count()
    with read_ahead(make(), depth=2, name="test") as ahead:
        assert next(iter(ahead)) == 1

    assert closed.is_set()
    assert threading.active_count() == before


def test_scratch_gives_a_private_folder_and_removes_it(tmp_path: Path) -> None:
    """Nobody else can read a job's files, and none is left, also after an error."""
    scratch = Scratch(tmp_path / "new" / "scratch")

    def fail() -> None:
        (scratch.folder / "job-abandoned").mkdir()  # by the job before
        with scratch.job() as folder:
            folders.append(folder)
            assert list(scratch.folder.glob("job-*")) == folders
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "video").write_bytes(b"x")
            raise RuntimeError

    folders: list[Path] = []
    with pytest.raises(RuntimeError):
        fail()
    assert not folders[0].exists()
    scratch.close()
    assert list((tmp_path / "new" / "scratch").glob("worker-*")) == []


def test_scratch_sweeps_the_dead_and_leaves_the_living(tmp_path: Path) -> None:
    """Folders of killed workers go; the folder of a worker that runs stays."""
    living = Scratch(tmp_path)
    for name in ("worker-dead", "worker-unlocked"):
        (tmp_path / name / "job-1").mkdir(parents=True)
    (tmp_path / "worker-dead" / LOCK_NAME).touch()
    (tmp_path / "other").mkdir()

    second = Scratch(tmp_path)

    assert second.swept == 2
    assert living.folder.exists()
    assert (tmp_path / "other").exists()
    with (living.folder / LOCK_NAME).open("ab") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    living.close()
    second.close()


def test_stages_count_nested_time_once() -> None:
    """A writer that pulls a tracker that pulls a decoder: each second belongs to the innermost stage."""
    now = [0.0]
    stages = StageTimer(lambda: now[0])

    def decode() -> Iterator[int]:
        for index in range(3):
            now[0] += 1
            yield index

    def track(frames: Iterator[int]) -> Iterator[int]:
        for frame in frames:
            now[0] += 10
            yield frame

    with stages.stage("write"):
        for _ in stages.each("track", track(stages.each("decode", decode()))):
            now[0] += 100

    assert stages.seconds() == {"decode": 3.0, "track": 30.0, "write": 300.0}
    assert stages.total_seconds() == 333.0


def test_waiting_for_another_thread_counts_for_no_stage() -> None:
    """Time in which a stage waits for what another thread makes is nobody's work."""
    now = [0.0]
    stages = StageTimer(lambda: now[0])

    def slow() -> Iterator[int]:
        for index in range(3):
            now[0] += 5
            yield index

    made = read_ahead(stages.each("perceive", slow()), depth=1, name="test")
    with made as ahead, stages.stage("track"):
        list(stages.each("perceive", ahead, counts=False))

    assert stages.seconds()["perceive"] == 15.0
    assert stages.seconds().get("track", 0.0) <= 5.0


@pytest.mark.parametrize(
    ("raised", "code", "kind"),
    [
        (DeviceOutOfMemory("CUDA"), "GPU_OUT_OF_MEMORY", ComputeError),
        (DeviceFault("CUDA"), "GPU_FAULT", ComputeError),
        (ModelOutputInvalid("Mine gave boxes of shape (2, 5)"), "MODEL_OUTPUT_INVALID", ComputeError),
        (OSError(errno.ENOSPC, "No space left on device"), "DISK_FULL", WorkerError),
        (OSError(errno.EDQUOT, "Quota exceeded"), "DISK_FULL", WorkerError),
        (OSError(errno.EIO, "I/O error"), "INTERNAL", WorkerError),
        (ValueError("/secret/path"), "INTERNAL", WorkerError),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_stages_translate_errors(raised: Exception, code: str, kind: type[JobError]) -> None:
    """What libraries and models raise becomes a code with its stage; the cause stays for the log."""
    stages = StageTimer()
    with pytest.raises(kind) as caught, stages.stage("perceive"):
        raise raised

    assert (caught.value.code, caught.value.stage) == (code, "perceive")
    assert caught.value.__cause__ is raised
    assert "/secret" not in str(caught.value)
    if isinstance(raised, ModelOutputInvalid):  # for whoever writes a detector of their own
        assert caught.value.message == "Mine gave boxes of shape (2, 5)"


def test_the_innermost_stage_is_named() -> None:
    """An error of the decoder is the decoder's, although the writer pulled it."""
    stages = StageTimer()

    def broken() -> Iterator[int]:
        yield 1
        raise SourceError(ErrorCode.VIDEO_UNREADABLE, "broken")

    with pytest.raises(SourceError) as caught, stages.stage("write"):
        list(stages.each("decode", broken()))
    assert caught.value.stage == "decode"


def test_each_closes_what_it_iterates() -> None:
    """Leaving early reaches the source's `finally`."""
    closed = []

    def source() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    made = source()  # held here too, so that only `close` can end it
    items = StageTimer().each("decode", made)
    assert next(items) == 1
    items.close()
    assert closed == [True]
