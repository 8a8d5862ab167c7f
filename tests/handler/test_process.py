"""How a process that runs jobs treats memory."""

import ctypes
import subprocess
import sys
from collections.abc import Callable

import pytest

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
