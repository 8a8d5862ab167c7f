"""Does intake keep up? Decoding through our stage against a bare PyAV loop, and memory over a long file.

    python -m benchmarks.intake [--frames 300] [--rounds 5]

Prints ratios; exits with 1 if decoding is below 90 % of the bare rate or memory is not flat.
"""

import argparse
import gc
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from handler.settings import IntakeSettings
from handler.source.decode import decode
from handler.source.picture import CONVERSION
from handler.source.probe import probe
from tests.video_factory import make_video

LEAST_RATIO = 0.90
MOST_GROWTH = 1.05
LIMITS = IntakeSettings()


def moving_texture(seed: int = 0) -> Callable[[int, tuple[int, int]], np.ndarray]:
    """Frames cut from one large blurred noise picture: motion and detail that cost a decoder real work."""
    noise = np.random.default_rng(seed).integers(0, 256, (1400, 2300, 3), np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 2)

    def draw(index: int, size: tuple[int, int]) -> np.ndarray:
        x, y = (3 * index) % (2300 - size[0]), (2 * index) % (1400 - size[1])
        return texture[y : y + size[1], x : x + size[0]]

    return draw


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


def bare(path: Path) -> int:
    """The simplest loop whose colours are right."""
    count = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            frame.reformat(format="bgr24", interpolation=CONVERSION).to_ndarray()
            count += 1
    return count


def rate(run: Callable[[Path], int], path: Path) -> tuple[float, float]:
    """(frames per second, CPU milliseconds per frame)."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    count = run(path)
    return count / (time.perf_counter() - wall), (time.process_time() - cpu) / count * 1000


def speed(path: Path, rounds: int) -> float:
    """The ratio of the best rates; the two take turns so that a busy machine hurts both."""
    facts = probe(path, LIMITS, sha256="0")
    runs = {"bare": bare, "ours": lambda path: sum(1 for _ in decode(facts, LIMITS))}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            seen[name].append(rate(run, path))
    fps = {name: max(rate for rate, _ in rows) for name, rows in seen.items()}
    cpu_ms = {name: min(cpu for _, cpu in rows) for name, rows in seen.items()}
    for name in runs:
        print(f"  {name}: {fps[name]:6.1f} frames/s, {cpu_ms[name]:.2f} ms CPU a frame")
    print(f"  CPU ratio {cpu_ms['bare'] / cpu_ms['ours']:.3f}")
    return fps["ours"] / fps["bare"]


def _peak(path: Path, results: multiprocessing.Queue) -> None:
    frames = decode(probe(path, LIMITS, sha256="0"), LIMITS)
    next(frames)
    time.sleep(1)  # until the queue is full, so that chance does not decide how full it gets
    count = 1 + sum(1 for _ in frames)
    # Not ru_maxrss: a process inherits that from the one that started it.
    status = Path("/proc/self/status").read_text()
    results.put((count, int(status.split("VmHWM:")[1].split()[0])))


def peak_megabytes(path: Path) -> tuple[int, float]:
    """(frames, peak memory) of a fresh process that decodes a file."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=_peak, args=(path, results))
    process.start()
    count, kilobytes = results.get(timeout=600)
    process.join()
    return count, kilobytes / 1024


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    quick = {"preset": "veryfast", "crf": "23"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"Decoding {options.frames} frames of 1080p H.264 to BGR")
        hd = make_video(
            folder / "hd.mp4",
            num_frames=options.frames,
            size=(1920, 1080),
            gop=60,
            draw=moving_texture(),
            options=quick,
        )
        ratio = speed(hd, options.rounds)
        print(f"  ratio {ratio:.3f} (at least {LEAST_RATIO})")

        print("Peak memory of a process that decodes 640x360")
        short = make_video(
            folder / "short.mp4",
            num_frames=600,
            size=(640, 360),
            gop=60,
            draw=moving_texture(),
            options=quick,
        )
        count, little = peak_megabytes(short)
        print(f"  {count:6d} frames: {little:.1f} MB")
        count, much = peak_megabytes(repeat(folder / "long.mp4", short, 20))
        print(f"  {count:6d} frames: {much:.1f} MB")
        growth = much / little
        print(f"  ratio {growth:.3f} (at most {MOST_GROWTH})")
    return 0 if ratio >= LEAST_RATIO and growth <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
