"""What a caller sees while a job runs."""

import threading

import pytest

from handler.job import ProgressMessage
from handler.progress import ProgressPump, Report
from handler.records import TrackedFrame
from tests.handler.results.factories import make_frame

WAIT_SECONDS = 30.0  # never waited in full unless something is broken


def message(frames_done: int) -> ProgressMessage:
    """A progress message that differs in one number."""
    return ProgressMessage(
        stage="track", frames_done=frames_done, frames_total=None, time_s=0.0, fps=0.0, eta_s=None, people=0
    )


def frame(index: int) -> TrackedFrame:
    """An empty frame at 10 frames a second."""
    return make_frame(index, pts_seconds=index / 10)


def test_pump_sends_in_order_and_always_the_newest_at_the_end() -> None:
    """While a slow receiver takes one message, newer ones replace each other, and the last is sent last."""
    sent: list[int] = []
    asked, answered = threading.Semaphore(0), threading.Semaphore(0)

    def send(one: ProgressMessage, seconds: float) -> None:
        asked.release()
        answered.acquire(timeout=WAIT_SECONDS)
        sent.append(one.frames_done)

    with ProgressPump(send, interval_seconds=0.001, drain_seconds=WAIT_SECONDS) as pump:
        for first in (0, 100, 200):
            pump.put(message(first))
            assert asked.acquire(timeout=WAIT_SECONDS)
            for index in range(first + 1, first + 100):
                pump.put(message(index))
            answered.release()
            assert asked.acquire(timeout=WAIT_SECONDS)
            answered.release()

    assert sent == [0, 99, 100, 199, 200, 299]


class Receiver:
    """Keeps what it is sent; `first` is set once there is something."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.first = threading.Event()

    def __call__(self, one: ProgressMessage, seconds: float) -> None:
        self.sent.append(one.frames_done)
        self.first.set()


def test_pump_throttles() -> None:
    """In an interval one message is sent, but for the last one, which waits for no interval."""
    receiver = Receiver()
    with ProgressPump(receiver, interval_seconds=600.0, drain_seconds=WAIT_SECONDS) as pump:
        pump.put(message(0))
        assert receiver.first.wait(WAIT_SECONDS)
        for index in range(1, 100):
            pump.put(message(index))

    assert receiver.sent == [0, 99]


def test_pump_sends_nothing_after_a_failure() -> None:
    """A job that failed or was cancelled drops what was not sent yet."""
    receiver = Receiver()

    def fail() -> None:
        with ProgressPump(receiver, interval_seconds=60.0, drain_seconds=5.0) as pump:
            pump.put(message(1))
            receiver.first.wait(5)
            pump.put(message(2))
            raise RuntimeError("the job failed")

    with pytest.raises(RuntimeError, match="the job failed"):
        fail()
    assert receiver.sent == [1]


def test_pump_survives_a_receiver_that_fails() -> None:
    """A lost update is logged and the next one is sent."""
    sent: list[int] = []

    def send(one: ProgressMessage, seconds: float) -> None:
        if one.frames_done == 1:
            failed.set()
            raise ConnectionError("gone")
        sent.append(one.frames_done)

    failed = threading.Event()
    with ProgressPump(send, interval_seconds=0.001, drain_seconds=5.0) as pump:
        pump.put(message(1))
        failed.wait(5)
        pump.put(message(2))

    assert sent == [2]


def test_pump_gives_up_on_a_receiver_that_hangs() -> None:
    """A job waits no longer than the drain time for an update under way."""
    asked, release = threading.Event(), threading.Event()
    arrived: list[int] = []

    def send(one: ProgressMessage, seconds: float) -> None:
        asked.set()
        release.wait(WAIT_SECONDS)
        arrived.append(one.frames_done)

    with ProgressPump(send, interval_seconds=0.001, drain_seconds=0.1) as pump:
        pump.put(message(1))
        assert asked.wait(WAIT_SECONDS)
    given_up = not arrived
    release.set()

    assert given_up


def test_updates_of_a_slow_receiver_fit_into_the_drain() -> None:
    """Half of it each: the one under way and the last one are over, sent or given up, when the job ends."""
    limits: list[float] = []
    first = threading.Event()

    def send(one: ProgressMessage, seconds: float) -> None:
        limits.append(seconds)
        first.set()
        raise TimeoutError

    with ProgressPump(send, interval_seconds=0.001, drain_seconds=20.0) as pump:
        pump.put(message(1))
        first.wait(5)
        pump.put(message(2))

    assert limits == [10.0, 10.0]


def test_nothing_is_sent_after_the_drain() -> None:
    """Should a receiver not keep to its time, what waits is dropped: it would follow the result."""
    sent: list[int] = []
    first, release = threading.Event(), threading.Event()

    def send(one: ProgressMessage, seconds: float) -> None:
        sent.append(one.frames_done)
        first.set()
        release.wait(30)

    pump = ProgressPump(send, interval_seconds=0.001, drain_seconds=0.05)
    with pump:
        pump.put(message(1))
        first.wait(5)
        pump.put(message(2))
    release.set()
    for thread in threading.enumerate():
        if thread.name == "progress":
            thread.join(5)

    assert sent == [1]


def test_report_counts_frames_as_they_are_taken() -> None:
    """The tap passes every frame on and says how far the job is, how fast, and how long it will take."""
    messages: list[ProgressMessage] = []
    now = iter(range(100))
    report = Report(messages.append, clock=lambda: float(next(now)))
    report.stage("download")

    frames = list(report.count((frame(index) for index in range(4)), 8))

    assert [one.info.frame_index for one in frames] == [0, 1, 2, 3]
    assert [one.frames_done for one in messages] == [0, 1, 2, 3, 4]
    last = messages[-1]
    assert (last.stage, last.frames_total, last.time_s, last.fps, last.eta_s) == ("track", 8, 0.3, 1.0, 4.0)


def test_report_corrects_a_total_that_was_too_small() -> None:
    """A header that promised fewer frames than there are never gives more done than there are in all."""
    messages: list[ProgressMessage] = []
    list(Report(messages.append).count((frame(index) for index in range(3)), 1))

    assert [(one.frames_done, one.frames_total) for one in messages] == [(1, 1), (2, 2), (3, 3)]
