"""A test rig: a worker's handler over fake networks, between a real HTTP source and a real S3 server.

Everything that leaves the worker is kept (log, progress, replies, stored files), so that every test can look
for what must not be left behind or shown.
"""

import asyncio
import gzip
import io
import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from handler import pipeline
from handler.context import JobContext, JobControl
from handler.handler import Handler, parse
from handler.job import JobInput, ProgressMessage, Reply
from handler.logs import Redactor, configure
from handler.progress import Report
from handler.scratch import Scratch
from handler.settings import BucketSettings, ClearCacheSettings, IntakeSettings, Settings, WorkerSettings
from tests.fakes import Box, FakeModels, FakePerception, draw_people
from tests.http_source import Fault, HttpSource
from tests.s3_server import S3Server
from tests.video_factory import make_video

SIZE = (320, 240)
FPS = 25
NUM_FRAMES = 30
SECRET = "5ecret0signature0f0the0url"
QUERY = f"?X-Amz-Signature={SECRET}&X-Amz-Credential=AKIDEXAMPLE"
INTAKE = {
    "allow_http": True,
    "allow_private_addresses": True,
    "allowed_ports": (),
    "reserve_disk_bytes": 0,
    "download_attempts": 2,
}
THREADS_OF_A_JOB = {"decode", "perceive", "progress"}


def boxes_of(index: int) -> dict[str, Box]:
    """Red walks to the right, 4 pixels a frame; green comes in frame 10 and stands there."""
    left = 16 + 4 * index
    people = {"red": (left, 64, left + 64, 208)}
    if index >= 10:
        people["green"] = (240, 80, 304, 224)
    return people


def local_settings(folder: Path) -> Settings:
    """For jobs on files: temporary files below the folder, no disk space reserved."""
    return Settings(worker=WorkerSettings(scratch=folder), intake=IntakeSettings(reserve_disk_bytes=0))


def local_context(folder: Path, options: dict[str, Any]) -> JobContext:
    """A job on a file, for `pipeline.run` with a `LocalRun`; the folder is made."""
    folder.mkdir(parents=True)
    return JobContext(
        job_id="local",
        request=JobInput.model_validate({"video_url": "unused", "options": options}),
        input_sha256="0" * 64,
        folder=folder,
        control=JobControl(time_budget_seconds=3600.0),
        report=Report(lambda message: None),
    )


def draw(index: int, size: tuple[int, int]) -> Any:
    """The picture of `boxes_of`."""
    return draw_people(boxes_of(index), size)


def make_clip(path: Path, **more: Any) -> Path:
    """The clip of `boxes_of`; `more` as in `make_video`."""
    return make_video(path, **({"num_frames": NUM_FRAMES, "fps": FPS, "size": SIZE, "draw": draw} | more))


def before_frame(index: int, act: Any) -> FakePerception:
    """Models that call `act` when they are given a certain frame; an exception is raised."""

    def before(indices: Sequence[int]) -> None:
        if index in indices:
            if isinstance(act, Exception):
                raise act
            act()

    return FakePerception(before=before)


@dataclass(repr=False)
class Rig:
    """All around a handler; `limits`, `intake`, `stored` change settings of worker, download and bucket."""

    source: HttpSource
    bucket: S3Server
    scratch: Scratch
    clip: Path
    log: io.StringIO
    models: FakeModels = field(default_factory=FakeModels)
    limits: dict[str, Any] = field(default_factory=dict)
    intake: dict[str, Any] = field(default_factory=dict)
    stored: dict[str, Any] = field(default_factory=dict)
    every_frames: int = 1
    progress: list[ProgressMessage] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)

    def settings(self) -> Settings:
        """A worker's settings."""
        stored = {
            "endpoint_url": self.bucket.endpoint_url,
            "access_key_id": self.bucket.access_key_id,
            "secret_access_key": self.bucket.secret_access_key,
            "name": self.bucket.bucket,
            "attempts": 1,
        }
        return Settings(
            intake=IntakeSettings(**(INTAKE | self.intake)),
            bucket=BucketSettings(**(stored | self.stored)),
            worker=WorkerSettings(**{"progress_interval_seconds": 0.001, **self.limits}),
            clear_cache=ClearCacheSettings(every_frames=self.every_frames),
        )

    def handler(self) -> Handler:
        """A handler as a worker builds it."""
        settings = self.settings()

        def send(job: Any, message: ProgressMessage, seconds: float) -> None:
            self.progress.append(message)

        redactor = Redactor(settings.secrets())
        configure("INFO", redactor)
        logging.getLogger().handlers[0].setStream(self.log)  # type: ignore[attr-defined]
        return Handler(
            partial(pipeline.run, models=self.models, settings=settings),
            settings=settings.worker,
            scratch=self.scratch,
            redactor=redactor,
            send_progress=send,
        )

    def job(
        self,
        job_id: str,
        clip: Path | bytes | None = None,
        *faults: Fault,
        always: Fault | None = None,
        **job_input: Any,
    ) -> dict[str, Any]:
        """A job over a clip that is now being served, with faults as in `HttpSource.add`."""
        content = self.clip if clip is None else clip
        url = self.source.add(f"{job_id}.mp4", content, *faults, always=always) + QUERY
        return {"id": job_id, "input": {"video_url": url, **job_input}}

    def run(self, job: dict[str, Any], handler: Handler | None = None) -> dict[str, Any]:
        """The reply to a job."""
        reply = asyncio.run((handler or self.handler()).handle(job))
        self.replies.append(reply)
        return reply

    def run_alone(self, job: dict[str, Any], control: JobControl, report: Report) -> Reply:
        """The job's work without the handler around it, in this thread."""
        request, input_sha256 = parse(job)
        with self.scratch.job() as folder:
            around = {"folder": folder, "control": control, "report": report}
            work = JobContext(job_id=job["id"], request=request, input_sha256=input_sha256, **around)
            return pipeline.run(work, self.models, self.settings())

    def lines(self, job_id: str) -> list[dict[str, Any]]:
        """The frames that were stored for a job."""
        packed = self.bucket.get(self.keys(job_id)["frames.jsonl.gz"])
        return [json.loads(line) for line in gzip.decompress(packed).splitlines()]

    def keys(self, job_id: str) -> dict[str, str]:
        """The keys of the data files that a job's summary names."""
        return {artifact["kind"]: artifact["key"] for artifact in self.summary(job_id)["artifacts"]}

    def summary(self, job_id: str) -> dict[str, Any]:
        """The summary that was stored for a job."""
        summary: dict[str, Any] = json.loads(self.bucket.get(f"{job_id}/result.json"))
        return summary

    def warnings(self, job_id: str) -> list[str]:
        """The codes of its warnings."""
        return [warning["code"] for warning in self.summary(job_id)["warnings"]]

    def leftovers(self) -> list[str]:
        """Folders and threads of jobs."""
        threads = [thread.name for thread in threading.enumerate()]
        threads = [name for name in threads if name.partition("_")[0] in THREADS_OF_A_JOB]
        return [*threads, *(path.name for path in self.scratch.folder.glob("job-*"))]

    def assert_nothing_left(self, printed: str = "") -> None:
        """No file, no thread; no secret in a line, an update, a reply, a stored file or what was printed."""
        assert self.leftovers() == []
        seen = [self.log.getvalue(), json.dumps(self.replies), repr(self.progress), printed]
        for path in self.bucket.folder.rglob("*"):
            if path.is_file():
                data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
                seen.append(data.decode("latin-1"))
        for secret in (SECRET, "AKIDEXAMPLE", self.bucket.secret_access_key):
            assert not any(secret in text for text in seen)
