"""Does intake keep up, do the stages of a job overlap, and is the memory of decoding flat?

    python -m benchmarks.intake [--frames 300] [--rounds 5]

1. Speed: decoding through our stage, and whole jobs whose models answer at once (no people, or four), against
   the simplest loop that decodes the same 1080p H.264 file with PyAV to arrays of the right colours.
2. Overlap: a job with a model that takes a fixed time per frame; wall time against the slowest stage and
   against the sum of all.
3. Peak memory of a process that decodes a short and a long file.

Exits with 1 if decoding is below 90 % of the bare rate or memory is not flat.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np

from handler.context import JobContext, JobControl
from handler.job import JobInput
from handler.pipeline import LocalRun, run
from handler.process import tune_process
from handler.progress import Report
from handler.settings import IntakeSettings, Settings
from handler.source.decode import decode
from handler.source.picture import CONVERSION
from handler.source.probe import probe
from model_cache.interfaces import People, PerceptionOptions
from tests.fakes import COLOURS_BGR, FakeModels, FakePerception, draw_people, people_in
from tests.video_factory import make_video

LEAST_RATIO = 0.90
MOST_GROWTH = 1.05
LIMITS = IntakeSettings(reserve_disk_bytes=0)
SIZE = (1920, 1080)
BASE, OURS = "PyAV, BGR arrays", "our decoding stage"
STAGES = ("decode", "perceive", "track", "write")

Cost = tuple[float, float]  # wall and CPU seconds


class InstantPerception(FakePerception):
    """The same people in every frame, without a look at it, after a fixed time."""

    def __init__(self, num_people: int, seconds_per_frame: float = 0.0) -> None:
        super().__init__()
        names = list(COLOURS_BGR)[:num_people]
        boxes = {name: (100 + 300 * i, 200, 250 + 300 * i, 700) for i, name in enumerate(names)}
        self._people = people_in(draw_people(boxes, SIZE), PerceptionOptions())
        self._seconds_per_frame = seconds_per_frame

    def perceive(
        self, images_bgr: Sequence[np.ndarray], frame_indices: Sequence[int], options: PerceptionOptions
    ) -> list[People]:
        """The people, once per image."""
        time.sleep(self._seconds_per_frame * len(images_bgr))  # a GPU at work: this thread only waits
        return [self._people] * len(images_bgr)


def make_clip(path: Path, num_frames: int, size: tuple[int, int]) -> Path:
    """A clip cut from one large blurred noise picture: motion and detail that cost a decoder real work."""
    noise = np.random.default_rng(0).integers(0, 256, (1400, 2300, 3), np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 2)

    def draw(index: int, size: tuple[int, int]) -> np.ndarray:
        x, y = (3 * index) % (2300 - size[0]), (2 * index) % (1400 - size[1])
        return texture[y : y + size[1], x : x + size[0]]

    quick = {"preset": "veryfast", "crf": "23"}
    return make_video(path, num_frames=num_frames, size=size, gop=60, draw=draw, options=quick)


def repeat(path: Path, source: Path, times: int) -> Path:
    """The same packets over and over: a long file made quickly."""
    with av.open(str(source)) as short, av.open(str(path), "w") as container:
        stream = short.streams.video[0]
        copy = container.add_stream_from_template(stream)
        packets = [packet for packet in short.demux(stream) if packet.pts is not None]
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe, p.time_base) for p in packets]
        length = round(Fraction(stream.frames) / stream.average_rate / stream.time_base)
        for turn in range(times):
            for content, pts, dts, is_keyframe, time_base in data:
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.is_keyframe, packet.time_base, packet.stream = is_keyframe, time_base, copy
                container.mux(packet)
    return path


def bare(clip: Path, *, to_arrays: bool) -> None:
    """Decode the clip with nothing around it."""
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if to_arrays:
                frame.reformat(format="bgr24", interpolation=CONVERSION).to_ndarray()


def decoded(clip: Path) -> int:
    """The number of frames that our stage gives."""
    return sum(1 for _ in decode(probe(clip, LIMITS, sha256="0"), LIMITS))


def job(clip: Path, perception: FakePerception) -> dict[str, float]:
    """Seconds of the stages of a whole job."""
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
        run(work, FakeModels(perception=perception), Settings(intake=LIMITS), LocalRun(out=out, video=clip))
        stages: dict[str, float] = json.loads((out / "result.json").read_text())["timing"]["stages_s"]
        return stages


def cost(work: Callable[[], object]) -> Cost:
    """What one run takes, over all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def speed(clip: Path, num: int, rounds: int) -> float:
    """Print rates, and ratios of the runs of the same round; returns the ratio of our decoding stage."""
    runs: dict[str, Callable[[], object]] = {
        "PyAV, frames only": lambda: bare(clip, to_arrays=False),
        BASE: lambda: bare(clip, to_arrays=True),
        OURS: lambda: decoded(clip),
        "a job, nobody there": lambda: job(clip, InstantPerception(0)),
        "a job, four people": lambda: job(clip, InstantPerception(4)),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, one in runs.items():  # in turns, so that a busy machine hurts all alike
            measured = cost(one)
            if number:  # the first round only warms up
                costs[name].append(measured)
    print(f"1080p H.264, {num} frames, models that answer at once; medians of {rounds} rounds")
    print(f"  {'':22} {'frames/s':>9} {'ratio':>6} {'CPU ms/frame':>13} {'CPU ratio':>10}")
    ratios = {}
    for name, all_measured in costs.items():
        rate = num / median(wall for wall, _ in all_measured)
        milliseconds = median(cpu for _, cpu in all_measured) / num * 1000
        pairs = list(zip(costs[BASE], all_measured, strict=True))
        ratios[name] = median(base[0] / mine[0] for base, mine in pairs)
        by_cpu = median(base[1] / mine[1] for base, mine in pairs)
        print(f"  {name:22} {rate:9.1f} {ratios[name]:6.2f} {milliseconds:13.2f} {by_cpu:10.2f}")
    return ratios[OURS]


def overlap(clip: Path) -> None:
    """Print how much of the stages' time happens at the same time."""
    print("Overlap, with a model that takes so long per frame (it waits, as for a GPU)")
    for milliseconds in (5, 20):
        start = time.perf_counter()
        stages = job(clip, InstantPerception(4, milliseconds / 1000))
        seconds = time.perf_counter() - start
        busy = {name: stages[name] for name in STAGES}
        shown = ", ".join(f"{name} {value:.2f}" for name, value in busy.items())
        slowest, total = max(busy.values()), sum(busy.values())
        print(f"  {milliseconds:3d} ms: wall {seconds:.2f} s ({shown})")
        print(f"          {seconds / slowest:.2f} x the slowest stage, {seconds / total:.2f} x the sum")


def peak_megabytes(path: Path) -> tuple[int, float]:
    """(frames, peak memory) of a fresh process that decodes a file."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (path,))


def _peak(path: Path) -> tuple[int, float]:
    frames = decode(probe(path, LIMITS, sha256="0"), LIMITS)
    next(frames)
    time.sleep(1)  # until the queue is full, so that chance does not decide how full it gets
    count = 1 + sum(1 for _ in frames)
    # Not ru_maxrss: a process inherits that from the one that started it.
    status = Path("/proc/self/status").read_text()
    return count, int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tune_process()  # as the worker does
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_clip(folder / "hd.mp4", options.frames, SIZE)
        ratio = speed(clip, options.frames, options.rounds)
        print(f"  our decoding stage: {ratio:.3f} (at least {LEAST_RATIO})")
        overlap(clip)
        print("Peak memory of a process that decodes 640x360")
        short = make_clip(folder / "short.mp4", 600, (640, 360))
        peaks = []
        for path in (short, repeat(folder / "long.mp4", short, 20)):
            count, peak = peak_megabytes(path)
            peaks.append(peak)
            print(f"  {count:6d} frames: {peak:.1f} MB")
        growth = peaks[1] / peaks[0]
        print(f"  ratio {growth:.3f} (at most {MOST_GROWTH})")
    return 0 if ratio >= LEAST_RATIO and growth <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
