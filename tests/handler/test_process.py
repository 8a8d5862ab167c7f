"""How a process that runs jobs treats memory."""

import ctypes
import subprocess
import sys

import pytest

# Ten frames of 6 MB come and go, eight times over; the first rounds only find out how much is needed.
REPEATED = """
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


@pytest.mark.parametrize(("how", "are_new"), [("tuned", False), ("as it is", True)])
def test_pages_of_freed_frames_are_used_again(how: str, are_new: bool) -> None:
    """A frame's pages are zeroed by the system once, not for each frame; without tuning they are."""
    done = subprocess.run(
        [sys.executable, "-c", REPEATED, how], capture_output=True, text=True, check=True, timeout=60
    )

    num_pages = 4 * 10 * 6 * 1024**2 // 4096
    assert (int(done.stdout) > num_pages / 10) == are_new


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
@pytest.mark.parametrize(("how", "are_few"), [("tuned", True), ("as it is", False)])
def test_threads_of_all_jobs_share_few_arenas(how: str, are_few: bool) -> None:
    """Memory that one job's threads have freed is used by the next job's; without tuning each has its own."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS, how], capture_output=True, text=True, check=True, timeout=60
    )

    assert (done.stdout.count("<heap nr=") <= 2) == are_few
