"""Does the memory of a worker grow with the number of its jobs, whatever happens to them?

    python -m benchmarks.soak [--models fake|lite] [--jobs 1000] [--objects]

One worker process does so many jobs of a few frames, in all real stages, against real servers on loopback:
videos of many sizes and containers, with nobody in them, damaged, missing; jobs cancelled on their way, sent
twice, invalid; uploads to a bucket, to presigned URLs, and refused ones. Prints its memory along the way, and
the growth over the last half; exits with 1 if that is above 3 %. `--objects` also prints which kinds of
Python objects have become more.
"""

import argparse
import asyncio
import gc
import itertools
import json
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import cv2

from benchmarks.job_memory import SIZE, example_frames
from handler import logs, pipeline
from handler.handler import Handler
from handler.process import resident_bytes, tune_process
from handler.scratch import Scratch
from handler.settings import (
    BucketSettings,
    IntakeSettings,
    Settings,
    WorkerSettings,
    inherited_environment,
)
from tests.fakes import FakeModels, draw_people
from tests.http_source import Fault, HttpSource
from tests.s3_server import S3Server, s3_server
from tests.video_factory import make_video

MOST_GROWTH = 1.03
REPORTS = 20
SIZES = [(160, 120), (320, 240), (240, 320), (426, 240), (1280, 720), (322, 242), (480, 270), (1920, 1080)]
SMALL = {"phalp.small_w": 20, "phalp.small_h": 40, "phalp.low_th_c": 0.3, "phalp.n_init": 1}


def draw(kind: str, index: int, size: tuple[int, int]) -> Any:
    """A picture with people whom the models can see."""
    if kind == "lite":
        return cv2.resize(example_frames()[index % 8], size, interpolation=cv2.INTER_AREA)
    left = 16 + 4 * index
    return draw_people({"red": (left, size[1] // 5, left + 48, size[1] - 8)}, size)


def jobs(kind: str, source: HttpSource, bucket: S3Server, folder: Path) -> list[dict[str, Any]]:
    """One job of each kind. `cancel_after`: its caller cancels it, seconds; `again`: always the same id."""
    urls = []
    for number, size in enumerate(SIZES):
        suffix = (".mp4", ".mkv", ".avi", ".ts")[number % 4]
        clip = make_video(
            folder / f"{number}{suffix}", num_frames=2 + number % 4, size=size, draw=partial(draw, kind)
        )
        urls.append(source.add(clip.name, clip))
    empty = make_video(
        folder / "empty.mp4", num_frames=3, size=SIZE[kind], draw=lambda _, size: draw_people({}, size)
    )
    data = (folder / "3.ts").read_bytes()
    damaged = data[: len(data) // 2] + bytes(2000) + data[len(data) // 2 + 2000 :]
    long = make_video(folder / "long.mp4", num_frames=40, size=SIZE[kind], draw=partial(draw, kind))
    long_url = source.add("long.mp4", long)
    gone = source.add("gone.mp4", b"x", always=Fault(status=404))
    put_urls = {name: source.url(f"stored/{name}") for name in ("result.json", "frames.jsonl.gz")}
    refused = {name: f"{bucket.endpoint_url}/{bucket.bucket}/{name}" for name in put_urls}
    options: dict[str, Any] = {"tracking": SMALL}
    full = {**options, "artifacts": ["frames.json", "overlay.mp4"], "profile": "full", "masks": True}
    chosen = {**options, "person": {"time_s": 0.1, "point": [5, 5]}}
    whole = [{"video_url": url, "options": options} for url in urls]
    return [
        *({"input": job} for job in whole),
        {"input": {**whole[1], "options": full}},
        {"input": {**whole[4], "options": {**full, "overlay_style": "skeleton"}}},
        {"input": {**whole[2], "options": chosen}},
        {"input": {**whole[0], "output": {"put_urls": put_urls}}},
        {"input": {**whole[0], "output": {"put_urls": refused}}},
        {"input": {**whole[3], "output": {"bucket": "not-there"}}},
        {"input": {"video_url": source.add("empty.mp4", empty), "options": options}},
        {"input": {"video_url": source.add("damaged.ts", damaged), "options": options}},
        {"input": {"video_url": source.add("cut.mp4", (folder / "0.mp4").read_bytes()[:2000])}},
        {"input": {"video_url": source.add("text.mp4", b"not a video " * 500)}},
        {"input": {"video_url": gone}},
        {"input": {"video_url": "https://example.com/a.mp4", "misspelt": 1}},
        {"input": {"video_url": "ftp://example.com/a.mp4"}},
        *({"input": {"video_url": long_url}, "cancel_after": after} for after in (0.0, 0.02, 0.1)),
        {"input": whole[5], "again": True},
    ]


async def work(spec: dict[str, Any]) -> None:
    """What the worker process does: the jobs, over and over, and a line about itself now and then."""
    settings = Settings(
        intake=IntakeSettings(
            allow_http=True,
            allow_private_addresses=True,
            allowed_ports=(),
            reserve_disk_bytes=0,
            download_attempts=1,
        ),
        bucket=BucketSettings(**spec["bucket"], attempts=1),
        worker=WorkerSettings(recycle_growth_bytes=0, log_level="ERROR", progress_interval_seconds=0.01),
    )
    tune_process()
    redactor = logs.Redactor(settings.secrets())
    logs.configure("ERROR", redactor)
    scratch = Scratch(Path(spec["folder"]))
    handler = Handler(
        partial(pipeline.run, models=load(spec["models"]), settings=settings),
        settings=settings.worker,
        scratch=scratch,
        redactor=redactor,
        memory_bytes=resident_bytes,
    )
    outcomes: Counter[str] = Counter()
    for number, job in zip(range(spec["num_jobs"]), itertools.cycle(spec["jobs"]), strict=False):
        job_id = "again" if job.get("again") else f"job-{number}"
        task = asyncio.create_task(handler.handle({"id": job_id, "input": job["input"]}))
        if "cancel_after" in job:
            await asyncio.sleep(job["cancel_after"])
            task.cancel()
        (reply,) = await asyncio.gather(task, return_exceptions=True)
        outcomes[outcome(reply)] += 1
        if (number + 1) % max(spec["num_jobs"] // REPORTS, 1) == 0:
            report(number + 1, outcomes, with_objects=spec["objects"])
    scratch.close()


def outcome(reply: Any) -> str:
    """How a job ended, in a word."""
    if isinstance(reply, BaseException):
        return type(reply).__name__
    return str(reply.get("error_code") or ("reused" if reply["reused"] else "completed"))


def load(kind: str) -> Any:
    """The models of the worker."""
    if kind == "fake":
        return FakeModels()
    from model_cache.load import load as load_models
    from model_cache.settings import ModelSettings

    return load_models(ModelSettings(models="lite"))


def report(num_jobs: int, outcomes: Counter[str], *, with_objects: bool) -> None:
    """One line of JSON."""
    gc.collect()
    line: dict[str, Any] = {
        "jobs": num_jobs,
        "rss": resident_bytes(),
        "threads": threading.active_count(),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "num_objects": len(gc.get_objects()),
        "outcomes": outcomes,
    }
    if with_objects:
        line["objects"] = Counter(type(thing).__qualname__ for thing in gc.get_objects())
    print(json.dumps(line), flush=True)


def reports(kind: str, num_jobs: int, *, with_objects: bool = False) -> Iterator[dict[str, Any]]:
    """What a worker process says of itself while it does so many jobs."""
    with (
        tempfile.TemporaryDirectory() as name,
        HttpSource() as source,
        s3_server(Path(name)) as bucket,
    ):
        folder = Path(name)
        spec = {
            "models": kind,
            "num_jobs": num_jobs,
            "objects": with_objects,
            "folder": str(folder / "scratch"),
            "jobs": jobs(kind, source, bucket, folder),
            "bucket": {
                "endpoint_url": bucket.endpoint_url,
                "access_key_id": bucket.access_key_id,
                "secret_access_key": bucket.secret_access_key,
                "name": bucket.bucket,
            },
        }
        environment = {**inherited_environment(), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.soak", "--work"]
        with Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=environment) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write(json.dumps(spec))
            worker.stdin.close()
            for line in worker.stdout:
                yield json.loads(line)
        if worker.returncode:
            raise RuntimeError(f"the worker ended with {worker.returncode}")


def main() -> int:
    """Measure and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", choices=("fake", "lite"), default="fake")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--objects", action="store_true", help="print what has become more")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        asyncio.run(work(json.load(sys.stdin)))
        return 0
    print(f"Memory of a worker with the {options.models} models")
    seen: list[dict[str, Any]] = []
    for line in reports(options.models, options.jobs, with_objects=options.objects):
        seen.append(line)
        print(
            f"  {line['jobs']:5d} jobs: {line['rss'] / 2**20:7.1f} MiB, {line['threads']} threads, "
            f"{line['files']} files, {line['num_objects']} objects",
            flush=True,
        )
    half = seen[len(seen) // 2 - 1]
    if options.objects:
        more = Counter(seen[-1]["objects"]) - Counter(half["objects"])
        print("  more in the last half:", dict(more.most_common(15)))
    growth = seen[-1]["rss"] / half["rss"]
    print(f"  outcomes: {seen[-1]['outcomes']}")
    print(f"  growth over the last half: {growth:.3f}")
    return 0 if growth <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
