"""How a process that runs jobs uses memory and threads, and how it ends on a signal or with its parent."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

SWITCH_SECONDS = 0.0005  # a busy Python thread halves the decoder's rate at the default of 0.005
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
LARGEST_KEPT_BYTES = 32 * 1024**2  # a 4K frame fits; glibc takes no more
KEPT_BYTES = 512 * 1024**2  # as much as frames may wait
NUM_ARENAS = 2

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_SECONDS = 3.0  # platforms kill what has not ended after about ten
PR_SET_PDEATHSIG = 1  # linux/prctl.h

Handle = Callable[[int, FrameType | None], object]
_LIBC = ctypes.CDLL(None)  # loaded here: a fork may happen while another thread loads a library


def tune_process() -> None:
    """Let threads take turns quickly, and let malloc reuse freed frames.

    By default malloc returns a freed frame's pages to the system, which zeroes them for the next frame: a
    sixth of the cost of a 1080p video without people. Threads share few arenas, because each arena keeps the
    most it ever needed and every job's threads use other ones (glibc has eight per core): memory would grow
    from job to job.

    Without glibc only the switching is tuned. Call it before any thread is started.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_ARENA_MAX, NUM_ARENAS)


def resident_bytes() -> int:
    """Memory this process holds now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def end_with_parent(signum: signal.Signals) -> None:
    """After a fork: the system sends this process the signal when its parent dies, however it dies.

    Linux only; elsewhere a child outlives a killed parent. The parent is the *thread* that starts the child,
    so start children from the main thread.
    """
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, int(signum))


def exit_on_signals() -> None:
    """Let a signal end this process as an exception does: half-written files are removed on the way."""
    _install(lambda number, _: sys.exit(128 + number))


@contextmanager
def stopping_on_signals(stop: Callable[[], None], clean_up: Callable[[], None]) -> Iterator[None]:
    """Inside the block a signal calls `stop`; leaving the block then ends the process.

    The exit code is 128 + the signal's number, as shells expect. If the block is not left within
    `PATIENCE_SECONDS` (a pass over the device cannot be interrupted), or a second signal comes, the process
    cleans up and ends regardless. Both functions are called in another thread, since a signal may interrupt
    the main thread while it holds a lock.
    """
    received: list[int] = []
    events: SimpleQueue[bool] = SimpleQueue()  # True for a signal, False once the block is left

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        events.put(True)

    def wait_for_signal() -> None:
        if events.get():
            stop()
            try:
                is_impatient = events.get(timeout=PATIENCE_SECONDS)
            except Empty:
                is_impatient = True
            if is_impatient:
                clean_up()
                os._exit(128 + received[0])

    waiter = threading.Thread(target=wait_for_signal, name="signals", daemon=True)
    waiter.start()
    before = _install(on_signal)
    try:
        yield
    finally:
        for number, handle in before.items():
            signal.signal(number, handle)
        events.put(False)
        waiter.join()
        if received:
            sys.exit(128 + received[0])


def _install(handle: Handle) -> dict[signal.Signals, Handle | int | None]:
    """Handle all signals but those that this process was started to ignore (`nohup`)."""
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handle) for number in handled}
