"""Do the stages of a job overlap, and what do reading and writing cost by themselves?

python -m benchmarks.overlap [--frames 300]

1. Intake and writing: a whole job whose models answer at once with four people, against the simplest loop
   that decodes the same 1080p H.264 file with PyAV to BGR arrays, the same with one scaler for all frames,
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


def people() -> PeopleInImage:
    """Four people."""
    boxes = {name: (100 + 300 * i, 200, 250 + 300 * i, 700) for i, name in enumerate(COLOURS_BGR)}
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


def bare(clip: Path, convert: Callable[[av.VideoFrame], object]) -> float:
    """Seconds to decode the clip with nothing around it."""
    start = time.perf_counter()
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            convert(frame)
    return time.perf_counter() - start


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


def best(measure: Callable[[], float], repeats: int) -> float:
    """The smallest of several measurements: what the machine can do when nobody disturbs it."""
    return min(measure() for _ in range(repeats))


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
        somebody = people()
        decoded = best(lambda: bare(clip, to_nothing), arguments.repeats)
        arrays = best(lambda: bare(clip, to_bgr), arguments.repeats)
        quick = best(lambda: bare(clip, with_one_scaler()), arguments.repeats)
        alone = best(lambda: job(clip, InstantPerception(somebody))[0], arguments.repeats)
        print(f"1080p H.264, {num} frames, {len(COLOURS_BGR)} people; best of {arguments.repeats}")
        for name, seconds in (
            ("PyAV, frames only", decoded),
            ("PyAV, BGR arrays", arrays),
            ("the same, one scaler", quick),
            ("a job, instant models", alone),
        ):
            print(f"  {name:22} {num / seconds:7.1f} frames/s   {arrays / seconds:.2f}")
        print("overlap, with a model that takes so long per frame (it waits, as for a GPU):")
        for milliseconds in (5, 20):
            seconds, stages = job(clip, InstantPerception(somebody, milliseconds / 1000))
            busy = {name: stages[name] for name in STAGES}
            slowest = max(busy.values())
            shown = ", ".join(f"{name} {value:.2f}" for name, value in busy.items())
            total = sum(busy.values())
            print(f"  {milliseconds:3d} ms: wall {seconds:.2f} s ({shown})")
            print(f"          {seconds / slowest:.2f} x the slowest stage, {seconds / total:.2f} x the sum")


if __name__ == "__main__":
    main()
