"""How a command ends when a signal tells it to. Knows nothing of what the command does."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_SECONDS = 3.0  # platforms kill what has not ended after about ten

Handle = Callable[[int, FrameType | None], object]


def exit_on_signals() -> None:
    """Let a signal end this process as an exception does: half-written files are removed on the way."""
    _install(lambda number, _: sys.exit(128 + number))


@contextmanager
def stopping_on_signals(stop: Callable[[], None], clean_up: Callable[[], None]) -> Iterator[None]:
    """Inside the block a signal calls `stop`; leaving the block then ends the process.

    Its exit code is 128 + the signal's number, as shells expect. If the block is not left soon (a pass over
    the device cannot be broken off), or a second signal comes, the process cleans up and ends regardless.

    Args:
        stop: makes the block end; called in a thread of its own, since a signal may find the main thread
            anywhere, with a lock in its hand.
        clean_up: removes what must not stay; called in that thread.
    """
    received: list[int] = []
    news: SimpleQueue[bool] = SimpleQueue()  # True for a signal, False once the block is left

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        news.put(True)

    def obey() -> None:
        if news.get():
            stop()
            try:
                impatient = news.get(timeout=PATIENCE_SECONDS)
            except Empty:
                impatient = True
            if impatient:
                clean_up()
                os._exit(128 + received[0])

    obeying = threading.Thread(target=obey, name="ending", daemon=True)
    obeying.start()
    before = _install(on_signal)
    try:
        yield
    finally:
        for number, handle in before.items():
            signal.signal(number, handle)
        news.put(False)
        obeying.join()
        if received:
            sys.exit(128 + received[0])


def _install(handle: Handle) -> dict[signal.Signals, Handle | int | None]:
    """Handle all signals but those that whoever started this process wants ignored (`nohup`)."""
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handle) for number in heard}
