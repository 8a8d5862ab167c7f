"""The real worker around a stand-in for the work: the video's path says how the job goes.

Runs as `python -m tests.contract.stub_worker` against a fake queue.
"""

import sys
import time
from urllib.parse import urlsplit

from handler import worker
from handler.context import JobContext
from handler.errors import ComputeError, ErrorCode, SourceError
from handler.job import JobWarning, Reply
from handler.settings import Settings, WorkerSettings
from model_cache.errors import WeightsMissing
from model_cache.interfaces import Models
from tests.handler.results.factories import make_frame

STAGES = ("download", "probe", "decode", "perceive", "track", "write", "overlay", "upload")


def run(work: JobContext) -> Reply:
    """`/frames/N`: N frames of progress. `/slow/SECONDS/STAGE`: that long in a stage. Others raise."""
    url = work.request.video_url.get_secret_value()
    what, *arguments = urlsplit(url).path.strip("/").split("/")
    num_frames = 1
    (work.folder / "video").write_bytes(b"x")
    match what:
        case "frames":
            num_frames = int(arguments[0])
            for _ in work.report.count(_frames(work, num_frames), num_frames):
                pass
        case "slow":
            work.report.stage(arguments[1])  # type: ignore[arg-type]  # a word of the test's URL
            end = time.monotonic() + float(arguments[0])
            while time.monotonic() < end:
                _step(work)
        case "stuck":
            time.sleep(float(arguments[0]))  # deaf: no check
        case "gone":
            work.report.stage("download")
            raise SourceError(ErrorCode.DOWNLOAD_NOT_FOUND, f"no such video: {url}")
        case "fault":
            raise ComputeError(ErrorCode.GPU_FAULT, "an illegal memory access")
        case "crash":
            raise RuntimeError(f"unexpected, with {url}")
        case "exit":
            raise SystemExit(3)
    return Reply(
        job_id=work.job_id,
        bucket=None,
        artifacts=(),
        frames=num_frames,
        people=0,
        duration_s=num_frames / 25,
        fps=25.0,
        models="fake",
        warnings=(JobWarning(code="NO_PEOPLE", message=f"nobody in {url}"),),
    )


def _step(work: JobContext) -> None:
    work.control.check()
    time.sleep(0.005)  # as work on a frame takes


def _frames(work: JobContext, num: int):
    for index in range(num):
        _step(work)
        yield make_frame(index)


def load() -> Models:
    """What a worker without its weights meets."""
    raise WeightsMissing("hmr2.safetensors is not in the store; run model_cache fetch")


if __name__ == "__main__":
    settings = Settings(worker=WorkerSettings(progress_drain_seconds=2.0))
    if "without-weights" in sys.argv:
        worker.start(load, settings)
    else:
        worker.take_jobs(run, [], settings, worker.prepare(settings))
