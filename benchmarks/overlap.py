"""Do the stages of a job overlap, and what do reading and writing cost by themselves?

python -m benchmarks.overlap [--frames 300]

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

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from handler.control import JobControl
from handler.job import JobInput
from handler.pipeline import LocalRun, run
from handler.progress import Report
from handler.settings import IntakeSettings, Settings
from handler.work import Work
from model_cache.interfaces import PeopleInImage, PerceptionOptions
from tests.fakes import COLOURS_BGR, FakeModels, FakePerception, draw_people, people_in

SIZE = (1920, 1080)
STAGES = ("decode", "perceive", "track", "write")


class InstantPerception(FakePerception):
    """The same people in every frame, without a look at it, after a fixed time."""

    def __init__(self, people: PeopleInImage, seconds_per_frame: float = 0.0) -> None:
        super().__init__()
        self._people = people
        self._seconds_per_frame = seconds_per_frame

    def perceive(
        self, images_bgr: Sequence[np.ndarray], frame_indices: Sequence[int], options: PerceptionOptions
    ) -> list[PeopleInImage]:
        """The people, once per image."""
        time.sleep(self._seconds_per_frame * len(images_bgr))  # a GPU at work: this thread only waits
        return [self._people] * len(images_bgr)


def people(num: int) -> PeopleInImage:
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
        work = Work(
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


def best(measure: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The smallest (wall, CPU) seconds of several measurements: what an undisturbed machine can do."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        measure()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    num = arguments.frames
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, num)
        nobody, four = people(0), people(4)
        decoded = best(lambda: bare(clip, to_nothing), arguments.repeats)
        arrays = best(lambda: bare(clip, to_bgr), arguments.repeats)
        quick = best(lambda: bare(clip, with_one_scaler()), arguments.repeats)
        empty = best(lambda: job(clip, InstantPerception(nobody)), arguments.repeats)
        full = best(lambda: job(clip, InstantPerception(four)), arguments.repeats)
        print(f"1080p H.264, {num} frames, models that answer at once; best of {arguments.repeats}")
        print(f"  {'':22} {'frames/s':>9} {'ratio':>6} {'CPU ms/frame':>13}")
        for name, (wall, cpu) in (
            ("PyAV, frames only", decoded),
            ("PyAV, BGR arrays", arrays),
            ("the same, one scaler", quick),
            ("a job, nobody there", empty),
            ("a job, four people", full),
        ):
            print(f"  {name:22} {num / wall:9.1f} {arrays[0] / wall:6.2f} {cpu / num * 1000:13.2f}")
        print("overlap, with a model that takes so long per frame (it waits, as for a GPU):")
        for milliseconds in (5, 20):
            seconds, stages = job(clip, InstantPerception(four, milliseconds / 1000))
            busy = {name: stages[name] for name in STAGES}
            slowest = max(busy.values())
            shown = ", ".join(f"{name} {value:.2f}" for name, value in busy.items())
            total = sum(busy.values())
            print(f"  {milliseconds:3d} ms: wall {seconds:.2f} s ({shown})")
            print(f"          {seconds / slowest:.2f} x the slowest stage, {seconds / total:.2f} x the sum")


if __name__ == "__main__":
    main()
