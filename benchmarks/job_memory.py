"""Does the memory of a whole job grow with the length of its video?

    python -m benchmarks.job_memory [--models fake|lite] [--frames 500 10000]

Each length is a job in a process of its own. Prints peak memory, and each length's ratio to the first; exits
with 1 if one is more than 5 % above it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from handler.pipeline import LocalRun, run
from handler.process import tune_process
from model_cache.interfaces import Models
from tests.fakes import Box, FakeModels, draw_people
from tests.handler.rig import local_context, local_settings
from tests.video_factory import make_video

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "four_people.mp4"
RUN = "import sys; from benchmarks.job_memory import run_job; run_job(*sys.argv[1:])"
MOST_GROWTH = 1.05
SIZE = {"fake": (320, 240), "lite": (320, 180)}
SMALL = {"phalp.small_w": 20, "phalp.small_h": 40, "phalp.low_th_c": 0.3}  # people in a small picture
TURN, SHOWN = 50, 8  # of so many frames the real people are in so many: the networks take their time


def boxes_of(index: int) -> dict[str, Box]:
    """One walks back and forth all the time, one is there half of the time: identities come and go."""
    left = 16 + 4 * abs((index % 60) - 30)
    people = {"red": (left, 64, left + 64, 208)}
    if index % 200 < 100:
        people["green"] = (240, 80, 304, 224)
    return people


@cache
def example_frames() -> list[np.ndarray]:
    """A few pictures of the bundled clip, small."""
    with av.open(str(EXAMPLE)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    shown = pictures[60 : 60 + SHOWN]
    return [cv2.resize(picture, SIZE["lite"], interpolation=cv2.INTER_AREA) for picture in shown]


def rectangles(index: int, size: tuple[int, int]) -> Any:
    """What the fakes see."""
    return draw_people(boxes_of(index), size)


def people_now_and_then(index: int, size: tuple[int, int]) -> Any:
    """What real networks see: the bundled clip's people for a while, then an empty room."""
    if index % TURN < SHOWN:
        return example_frames()[index % TURN]
    return np.full((size[1], size[0], 3), 128, np.uint8)


DRAW: dict[str, Callable[[int, tuple[int, int]], Any]] = {"fake": rectangles, "lite": people_now_and_then}


def job_peak(folder: Path, num_frames: int, kind: str) -> dict[str, int]:
    """`frames`, `people` and `peak_bytes` of a job over so many frames.

    Args:
        folder: takes the clip and the results.
        num_frames: length of the clip.
        kind: "fake" or "lite", the models.
    """
    clip = make_video(
        folder / f"{kind}-{num_frames}.mp4", num_frames=num_frames, size=SIZE[kind], draw=DRAW[kind]
    )
    done = subprocess.run(
        [sys.executable, "-c", RUN, clip, folder / f"out-{kind}-{num_frames}", kind],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert result["frames"] == num_frames
    return result


def load(kind: str) -> Models:
    """The fakes that see coloured rectangles, or the bundled networks."""
    if kind == "fake":
        return FakeModels()
    from model_cache.load import load as load_models
    from model_cache.settings import ModelSettings

    return load_models(ModelSettings(models="lite"))


def run_job(clip: str, out: str, kind: str) -> None:
    """Print frames, people and peak bytes as JSON."""
    tune_process()  # as the worker does
    models = load(kind)
    folder = Path(out)
    context = local_context(folder / "job", {"tracking": SMALL})
    reply = run(context, models, local_settings(folder), LocalRun(out=folder, video=Path(clip)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write(json.dumps({"frames": reply.frames, "people": reply.people, "peak_bytes": peak}))


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
