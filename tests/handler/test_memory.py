"""Memory does not depend on the length of the video."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import av
import pytest

from handler.settings import IntakeSettings
from handler.source.decode import decode
from handler.source.probe import probe
from tests.fakes import Box, draw_people
from tests.video_factory import make_video

ROOT = Path(__file__).parents[2]
SIZE = (320, 240)


def boxes_of(index: int) -> dict[str, Box]:
    """One walks back and forth all the time, one is there half of the time: identities come and go."""
    left = 16 + 4 * abs((index % 60) - 30)
    people = {"red": (left, 64, left + 64, 208)}
    if index % 200 < 100:
        people["green"] = (240, 80, 304, 224)
    return people


def peak(folder: Path, num_frames: int) -> int:
    """Peak memory of a job over so many frames, in a process of its own, bytes."""
    clip = make_video(
        folder / f"{num_frames}.mp4",
        num_frames=num_frames,
        size=SIZE,
        draw=lambda index, size: draw_people(boxes_of(index), size),
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.handler.run_job", clip, folder / f"out-{num_frames}"],
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout)
    assert result["frames"] == num_frames
    return int(result["peak_bytes"])


def test_decoded_pictures_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    """No reference cycle keeps the decoder's pictures: at 1080p each one is 3 MB."""
    clip = make_video(tmp_path / "clip.mp4", num_frames=60)
    settings = IntakeSettings()
    gc.collect()
    gc.disable()
    try:
        num_frames = sum(1 for _ in decode(probe(clip, settings), settings))
        num_alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())  # asks nobody
    finally:
        gc.enable()

    assert num_frames == 60
    assert num_alive <= 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_of_a_job_does_not_grow_with_its_length(tmp_path: Path) -> None:
    """10,000 frames peak within 5 % of 500."""
    short, long = peak(tmp_path, 500), peak(tmp_path, 10_000)

    assert long < 1.05 * short
