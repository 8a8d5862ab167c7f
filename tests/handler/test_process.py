"""How a process that runs jobs treats memory."""

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
