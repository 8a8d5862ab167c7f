"""Peak memory of whole jobs of any length, each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tests.fakes import Box, draw_people
from tests.video_factory import make_video

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "four_people.mp4"
SIZE = {"fake": (320, 240), "lite": (320, 180)}
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
        [sys.executable, "-m", "tests.handler.run_job", clip, folder / f"out-{kind}-{num_frames}", kind],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert result["frames"] == num_frames
    return result
