"""Where the time goes and where an error happened."""

import errno
from collections.abc import Iterator

import pytest

from handler.errors import ComputeError, ErrorCode, JobError, SourceError, WorkerError
from handler.read_ahead import read_ahead
from handler.stage_timer import StageTimer
from model_cache.errors import DeviceFault, DeviceOutOfMemory, ModelOutputInvalid


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_stages_count_nested_time_once() -> None:
    """A writer that pulls a tracker that pulls a decoder: each second belongs to the innermost stage."""
    clock = Clock()
    stages = StageTimer(clock)

    def decode() -> Iterator[int]:
        for index in range(3):
            clock.now += 1
            yield index

    def track(frames: Iterator[int]) -> Iterator[int]:
        for frame in frames:
            clock.now += 10
            yield frame

    with stages.stage("write"):
        for _ in stages.each("track", track(stages.each("decode", decode()))):
            clock.now += 100

    assert stages.seconds() == {"decode": 3.0, "track": 30.0, "write": 300.0}
    assert stages.total_seconds() == 333.0


def test_waiting_for_another_thread_counts_for_no_stage() -> None:
    """Time in which a stage waits for what another thread makes is nobody's work."""
    clock = Clock()
    stages = StageTimer(clock)

    def slow() -> Iterator[int]:
        for index in range(3):
            clock.now += 5
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

    items = StageTimer().each("decode", source())
    assert next(items) == 1
    items.close()
    assert closed == [True]
