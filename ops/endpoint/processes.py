"""Child processes that end with their parent, and how to tell one from a later process with its number."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def ending_with_parent(signum: signal.Signals) -> Callable[[], None]:
    """For `preexec_fn`: the system sends the child this signal when the parent dies, however it dies.

    Linux only; elsewhere a child outlives a killed parent. The parent is the *thread* that starts the child,
    so start children from the main thread.
    """

    def tie() -> None:
        if _LIBC is not None:
            _LIBC.prctl(PR_SET_PDEATHSIG, int(signum))

    return tie


def birth(pid: int) -> str | None:
    """When a living process was started, in ticks since boot.

    Unlike the date that psutil gives, it stays the same when the clock is set. None if there is no such
    process (a zombie is none), or the system does not say.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started = fields[0], fields[19]  # fields 3 and 22 of proc(5)
    return None if state in "ZX" else started


def end_group(pid: int, signum: signal.Signals = signal.SIGKILL) -> None:
    """Signal a child and its own children, which share its process group (`start_new_session`)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)
