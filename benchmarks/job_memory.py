"""Does the memory of a whole job grow with the length of its video?

    python -m benchmarks.job_memory [--models fake|lite] [--frames 500 10000]

Each length is a job in a process of its own. Prints peak memory, and each length's ratio to the first; exits
with 1 if one is more than 5 % above it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.handler.job_memory import job_peak

MOST_GROWTH = 1.05


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", choices=("fake", "lite"), default="fake")
    parser.add_argument("--frames", type=int, nargs="+", default=[500, 10_000])
    options = parser.parse_args()
    print(f"Peak memory of jobs with the {options.models} models")
    ratios: list[float] = []
    first = 0
    with tempfile.TemporaryDirectory() as folder:
        for num_frames in options.frames:
            result = job_peak(Path(folder), num_frames, options.models)
            first = first or result["peak_bytes"]
            ratios.append(result["peak_bytes"] / first)
            length = f"{num_frames:6d} frames, {result['people']:4d} people"
            print(f"  {length}: {result['peak_bytes'] / 2**20:7.1f} MiB, ratio {ratios[-1]:.3f}", flush=True)
    return 0 if max(ratios) <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
