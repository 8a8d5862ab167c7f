"""Do the stages of a job overlap, and what do reading and writing cost by themselves?

python -m benchmarks.overlap [--frames 600] [--rounds 5]

1. Intake and writing: a whole job whose models answer at once (nobody, or four people), against the
   simplest loop that decodes the same 1080p H.264 file with PyAV to BGR arrays, the same with one scaler,
   and decoding to nothing at all.
2. Overlap: the same with a model that takes a fixed time per frame; wall time against the slowest stage and
   against the sum of all.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from handler.context import JobContext, JobControl
from handler.job import JobInput
from handler.pipeline import LocalRun, run
from handler.process import tune_process
from handler.progress import Report
from handler.settings import IntakeSettings, Settings
from model_cache.interfaces import People, PerceptionOptions
from tests.fakes import COLOURS_BGR, FakeModels, FakePerception, draw_people, people_in

SIZE = (1920, 1080)
BASE = "PyAV, BGR arrays"
STAGES = ("decode", "perceive", "track", "write")


class InstantPerception(FakePerception):
    """The same people in every frame, without a look at it, after a fixed time."""

    def __init__(self, people: People, seconds_per_frame: float = 0.0) -> None:
        super().__init__()
        self._people = people
        self._seconds_per_frame = seconds_per_frame

    def perceive(
        self, images_bgr: Sequence[np.ndarray], frame_indices: Sequence[int], options: PerceptionOptions
    ) -> list[People]:
        """The people, once per image."""
        time.sleep(self._seconds_per_frame * len(images_bgr))  # a GPU at work: this thread only waits
        return [self._people] * len(images_bgr)


def people(num: int) -> People:
    """So many people, at most four."""
    names = list(COLOURS_BGR)[:num]
    boxes = {name: (100 + 300 * i, 200, 250 + 300 * i, 700) for i, name in enumerate(names)}
    return people_in(draw_people(boxes, SIZE), PerceptionOptions())


def make_clip(path: Path, num_frames: int) -> None:
    """A 1080p H.264 clip with motion and texture, so that it costs what a camera's video costs."""
    random = np.random.default_rng(0)
    texture = random.integers(0, 255, (SIZE[1] + 64, SIZE[0] + 64, 3), dtype=np.uint8)
    texture = np.asarray(av.VideoFrame.from_ndarray(texture, format="bgr24").reformat(
        width=(SIZE[0] + 64) // 8, height=(SIZE[1] + 64) // 8).reformat(
        width=SIZE[0] + 64, height=SIZE[1] + 64).to_ndarray(format="bgr24"))  # fmt: skip
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.options = {"preset": "veryfast", "crf": "23"}
        for index in range(num_frames):
            x, y = index % 64, (index // 2) % 64
            picture = np.ascontiguousarray(texture[y : y + SIZE[1], x : x + SIZE[0]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))


def bare(clip: Path, convert: Callable[[av.VideoFrame], object]) -> None:
    """Decode the clip with nothing around it."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            convert(frame)


def to_nothing(frame: av.VideoFrame) -> None:
    """Decoding alone."""


def to_bgr(frame: av.VideoFrame) -> object:
    """The simplest way to an array."""
    return frame.to_ndarray(format="bgr24")


def with_one_scaler() -> Callable[[av.VideoFrame], object]:
    """The quickest way to an array."""
    scaler = VideoReformatter()
    return lambda frame: scaler.reformat(frame, format="bgr24").to_ndarray()


def job(clip: Path, perception: FakePerception) -> tuple[float, dict[str, float]]:
    """Seconds of a whole job, and of its stages."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        work = JobContext(
            job_id="benchmark",
            request=JobInput.model_validate({"video_url": "unused"}),
            input_sha256="0" * 64,
            folder=Path(folder),
            control=JobControl(time_budget_seconds=3600.0),
            report=Report(lambda message: None),
        )
        settings = Settings(intake=IntakeSettings(reserve_disk_bytes=0))
        start = time.perf_counter()
        run(work, FakeModels(perception=perception), settings, LocalRun(out=out, video=clip))
        seconds = time.perf_counter() - start
        return seconds, json.loads((out / "result.json").read_text())["timing"]["stages_s"]


Cost = tuple[float, float]  # wall and CPU seconds


def cost(run: Callable[[], object]) -> Cost:
    """What one run takes, over all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turns(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[Cost]]:
    """The costs of each run; they take turns, so that a busy machine hurts all alike."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, one in runs.items():
            measured = cost(one)
            if number:  # the first round only warms up
                costs[name].append(measured)
    return costs


def intake_and_writing(clip: Path, num: int, rounds: int) -> None:
    """Print whole jobs beside bare loops, as rates and as ratios of the runs of the same round."""
    runs: dict[str, Callable[[], object]] = {
        "PyAV, frames only": lambda: bare(clip, to_nothing),
        BASE: lambda: bare(clip, to_bgr),
        "the same, one scaler": lambda: bare(clip, with_one_scaler()),
        "a job, nobody there": lambda: job(clip, InstantPerception(people(0))),
        "a job, four people": lambda: job(clip, InstantPerception(people(4))),
    }
    costs = in_turns(runs, rounds)
    print(f"1080p H.264, {num} frames, models that answer at once; medians of {rounds} rounds")
    print(f"  {'':22} {'frames/s':>9} {'ratio':>6} {'CPU ms/frame':>13} {'CPU ratio':>10}")
    for name, measured in costs.items():
        rate = num / median(wall for wall, _ in measured)
        milliseconds = median(cpu for _, cpu in measured) / num * 1000
        pairs = list(zip(costs[BASE], measured, strict=True))
        by_wall = median(base[0] / mine[0] for base, mine in pairs)
        by_cpu = median(base[1] / mine[1] for base, mine in pairs)
        print(f"  {name:22} {rate:9.1f} {by_wall:6.2f} {milliseconds:13.2f} {by_cpu:10.2f}")


def overlap(clip: Path) -> None:
    """Print how much of the stages' time happens at the same time."""
    print("overlap, with a model that takes so long per frame (it waits, as for a GPU):")
    for milliseconds in (5, 20):
        seconds, stages = job(clip, InstantPerception(people(4), milliseconds / 1000))
        busy = {name: stages[name] for name in STAGES}
        slowest = max(busy.values())
        shown = ", ".join(f"{name} {value:.2f}" for name, value in busy.items())
        total = sum(busy.values())
        print(f"  {milliseconds:3d} ms: wall {seconds:.2f} s ({shown})")
        print(f"          {seconds / slowest:.2f} x the slowest stage, {seconds / total:.2f} x the sum")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tune_process()  # as the worker does
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, arguments.frames)
        intake_and_writing(clip, arguments.frames, arguments.rounds)
        overlap(clip)


if __name__ == "__main__":
    main()
