"""How a process that runs jobs treats memory and its threads. Knows nothing of jobs."""

import ctypes
import os
import sys
from pathlib import Path

SWITCH_SECONDS = 0.0005  # a busy Python thread halves the decoder's rate at the default of 0.005
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
LARGEST_KEPT_BYTES = 32 * 1024**2  # a 4K frame fits; glibc takes no more
KEPT_BYTES = 512 * 1024**2  # as much as frames may wait
NUM_ARENAS = 2


def tune_process() -> None:
    """Let threads take turns quickly, and let freed frames be used again.

    Left alone, malloc gives a freed frame's pages back to the system and has them zeroed for the next one: a
    sixth of what a 1080p video costs besides its people.

    Threads share few arenas. Each keeps as much as was ever needed of it at once, and every job's threads
    land in others (there are eight per core), so that memory would grow from job to job.

    Without glibc only the switching is tuned. Call it before any thread is started.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
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
