"""What a caller sees while a job runs."""

import threading
from collections.abc import Callable

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
    """Keeps what it is sent and within how many seconds, after `act`; `first` is set when asked."""

    def __init__(self, act: Callable[[ProgressMessage], object] = lambda one: None) -> None:
        self.sent: list[int] = []
        self.limits: list[float] = []
        self.first = threading.Event()
        self._act = act

    def __call__(self, one: ProgressMessage, seconds: float) -> None:
        self.limits.append(seconds)
        self.first.set()
        self._act(one)
        self.sent.append(one.frames_done)


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


def test_pump_survives_a_receiver_that_fails_in_its_time() -> None:
    """A lost update is logged and the next one is sent; each has half of the drain."""

    def fail_at_first(one: ProgressMessage) -> None:
        if one.frames_done == 1:
            raise TimeoutError

    receiver = Receiver(fail_at_first)
    with ProgressPump(receiver, interval_seconds=0.001, drain_seconds=20.0) as pump:
        pump.put(message(1))
        receiver.first.wait(5)
        pump.put(message(2))

    assert (receiver.sent, receiver.limits) == ([2], [10.0, 10.0])


def test_pump_gives_up_on_a_receiver_that_hangs() -> None:
    """A job waits as long as the drain for an update under way; what waits behind it is dropped."""
    release = threading.Event()
    receiver = Receiver(lambda one: release.wait(WAIT_SECONDS))
    with ProgressPump(receiver, interval_seconds=0.001, drain_seconds=0.05) as pump:
        pump.put(message(1))
        assert receiver.first.wait(WAIT_SECONDS)
        pump.put(message(2))
    given_up = not receiver.sent
    release.set()
    for thread in threading.enumerate():
        if thread.name == "progress":
            thread.join(5)

    assert given_up
    assert receiver.sent == [1]


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
