"""Whole jobs through the real handler and every real stage; only the networks are fakes.

The video comes over HTTP with a secret in its URL, the results go to a real S3 server. After every test, all
that was logged, reported and replied is searched for the secrets.
"""

import asyncio
import gzip
import io
import json
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from handler import pipeline
from handler.control import JobControl
from handler.errors import ComputeError, WorkerError
from handler.handler import Handler, parse
from handler.job import ProgressMessage, Reply
from handler.logs import Redactor, configure
from handler.progress import Report
from handler.scratch import Scratch
from handler.settings import (
    BucketSettings,
    ClearCacheSettings,
    IntakeSettings,
    Settings,
    WorkerSettings,
)
from handler.work import Work
from model_cache.errors import DeviceFault, DeviceOutOfMemory, ModelOutputInvalid
from model_cache.interfaces import PeopleInImage
from tests.fakes import Box, FakeModels, FakePerception, FakePosePredictor, draw_people
from tests.http_source import Fault, HttpSource
from tests.s3_server import S3Server, s3_server
from tests.video_factory import make_video

SIZE = (320, 240)
FPS = 25
NUM_FRAMES = 30
SECRET = "5ecret0signature0f0the0url"
QUERY = f"?X-Amz-Signature={SECRET}&X-Amz-Credential=AKIDEXAMPLE"
THREADS_OF_A_JOB = {"decode", "perceive", "progress"}


def boxes_of(index: int) -> dict[str, Box]:
    """Red walks to the right, 4 pixels a frame; green comes in frame 10 and stands there."""
    left = 16 + 4 * index
    people = {"red": (left, 64, left + 64, 208)}
    if index >= 10:
        people["green"] = (240, 80, 304, 224)
    return people


@dataclass
class World:
    """A video source, a bucket, and a handler over fake models; keeps everything that leaves the worker."""

    source: HttpSource
    bucket: S3Server
    scratch: Scratch
    clip: Path
    log: io.StringIO
    models: FakeModels = field(default_factory=FakeModels)
    limits: dict[str, Any] = field(default_factory=dict)
    every_frames: int = 1
    progress: list[ProgressMessage] = field(default_factory=list)
    replies: list[dict[str, Any]] = field(default_factory=list)

    def settings(self) -> Settings:
        """A worker's settings."""
        return Settings(
            intake=IntakeSettings(
                allow_http=True,
                allow_private_addresses=True,
                allowed_ports=(),
                reserve_disk_bytes=0,
                download_attempts=2,
            ),
            bucket=BucketSettings(
                endpoint_url=self.bucket.endpoint_url,
                access_key_id=self.bucket.access_key_id,
                secret_access_key=self.bucket.secret_access_key,
                name=self.bucket.bucket,
                attempts=1,
            ),
            worker=WorkerSettings(**{"progress_interval_seconds": 0.001, **self.limits}),
            clear_cache=ClearCacheSettings(every_frames=self.every_frames),
        )

    def handler(self) -> Handler:
        """A handler as a worker builds it."""
        settings = self.settings()

        def send(job: Any, message: ProgressMessage) -> None:
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
        self, job_id: str, clip: Path | bytes | None = None, *faults: Fault, **job_input: Any
    ) -> dict[str, Any]:
        """A job over a clip that is now being served."""
        url = self.source.add(f"{job_id}.mp4", clip or self.clip, *faults) + QUERY
        return {"id": job_id, "input": {"video_url": url, **job_input}}

    def run(self, job: dict[str, Any], handler: Handler | None = None) -> dict[str, Any]:
        """The reply to a job."""
        reply = asyncio.run((handler or self.handler()).handle(job))
        self.replies.append(reply)
        return reply

    def lines(self, job_id: str) -> list[dict[str, Any]]:
        """The frames that were stored for a job."""
        packed = self.bucket.get(f"{job_id}/frames.jsonl.gz")
        return [json.loads(line) for line in gzip.decompress(packed).splitlines()]

    def leftovers(self) -> list[str]:
        """Folders and threads of jobs."""
        threads = [thread.name for thread in threading.enumerate() if thread.name in THREADS_OF_A_JOB]
        return [*threads, *(path.name for path in self.scratch.folder.glob("job-*"))]

    def assert_nothing_left(self) -> None:
        """No file, no thread, no secret outside."""
        assert self.leftovers() == []
        seen = self.log.getvalue() + json.dumps(self.replies) + repr(self.progress)
        for secret in (SECRET, "AKIDEXAMPLE", self.bucket.secret_access_key):
            assert secret not in seen


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip of `boxes_of`."""
    return make_video(
        tmp_path_factory.mktemp("clip") / "clip.mp4",
        num_frames=NUM_FRAMES,
        fps=FPS,
        size=SIZE,
        draw=lambda index, size: draw_people(boxes_of(index), size),
    )


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for all tests here; each uses its own job ids."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def world(clip: Path, bucket: S3Server, tmp_path: Path) -> Iterator[World]:
    """Everything around a job, checked for leftovers and leaks afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with HttpSource() as source:
        scratch = Scratch(tmp_path / "scratch")
        world = World(source, bucket, scratch, clip, io.StringIO())
        try:
            yield world
            world.assert_nothing_left()
        finally:
            scratch.close()
            root.handlers[:], root.level = handlers, level
            structlog.reset_defaults()


def expected_person(track_id: int, colour_index: int, box: Box) -> dict[str, Any]:
    """What is written for a person in this box, by the fakes' rules and PHALP's camera."""
    x1, y1, x2, y2 = box
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    ratio = 256 / max(SIZE)
    depth = 2 * 5000 / ((y2 - y1) * ratio)
    on_canvas = (centre + np.array([0, (SIZE[0] - SIZE[1]) / 2])) * ratio
    transl = [*((on_canvas - 128) * depth / 5000), depth]
    return {
        "track_id": track_id,
        "state": "tracked",
        "bbox_xyxy": [float(value) for value in box],
        "global_orient": [0.0, round(centre[0] / SIZE[0], 4), 0.0],
        "betas": [colour_index / 4] + [0.0] * 9,
        "transl": transl,
    }


def test_job_gives_exactly_the_expected_document(world: World) -> None:
    """Every frame has its line, its time, its people with ids, places and parameters; the summary agrees."""
    reply = world.run(world.job("exact"))

    assert (reply["status"], reply["frames"], reply["people"]) == ("completed", NUM_FRAMES, 2)
    lines = world.lines("exact")
    assert [line["frame"] for line in lines] == list(range(NUM_FRAMES))
    assert [line["time_s"] for line in lines] == [index / FPS for index in range(NUM_FRAMES)]
    for index, line in enumerate(lines):
        expected = [
            expected_person(track_id, track_id - 1, box)
            for track_id, box in enumerate(boxes_of(index).values(), start=1)
        ]
        assert len(line["people"]) == len(expected)
        for person, wanted in zip(line["people"], expected, strict=True):
            smpl = person["smpl"]
            assert np.allclose(smpl.pop("transl"), wanted.pop("transl"), atol=2e-4)
            assert {key: {**person, **smpl}[key] for key in wanted} == wanted
            assert smpl["body_pose"] == [0.0] * 69
    summary = json.loads(world.bucket.get("exact/result.json"))
    assert summary["processed"]["frames"] == NUM_FRAMES
    assert [one["n_tracked"] for one in summary["tracks"]] == [NUM_FRAMES, NUM_FRAMES - 10]
    assert {"download", "decode", "perceive", "track", "write", "upload"} <= set(
        summary["timing"]["stages_s"]
    )
    assert summary["models"]["notice"] == "fake models"
    assert [artifact["key"] for artifact in reply["artifacts"]] == [
        "exact/frames.jsonl.gz",
        "exact/result.json",
    ]


def test_progress_tells_the_stages_in_order(world: World) -> None:
    """Stages come in the order of the flow, and the counted frames only grow, to the last one."""
    world.run(world.job("progress"))

    stages = [message.stage for message in world.progress]
    order = ["download", "probe", "decode", "track", "upload"]
    assert sorted(stages, key=order.index) == stages
    done = [message.frames_done for message in world.progress]
    assert sorted(done) == done
    assert (done[-1], world.progress[-1].frames_total) == (NUM_FRAMES, NUM_FRAMES)


def test_jobs_do_not_touch_each_other(world: World) -> None:
    """A job after another one in the same worker gives the same bytes as alone: ids start at 1 again."""
    handler = world.handler()
    world.run(world.job("alone"), handler)
    other = make_video(
        world.scratch.folder.parent / "other.mp4",
        num_frames=12,
        size=SIZE,
        draw=lambda index, size: draw_people(
            {"blue": (100, 60, 164, 204), "pink": (200, 60, 264, 204)}, size
        ),
    )
    world.run(world.job("between", other), handler)
    world.run(world.job("after"), handler)

    assert world.bucket.get("after/frames.jsonl.gz") == world.bucket.get("alone/frames.jsonl.gz")


def test_same_job_again_is_answered_from_its_results(world: World) -> None:
    """A job that is complete is not run again; the same id with another input is."""
    handler = world.handler()
    job = world.job("again")
    first = world.run(job, handler)
    num_batches = len(world.models.perception.batches)
    second = world.run(job, handler)
    assert len(world.models.perception.batches) == num_batches
    changed = {"id": "again", "input": {**job["input"], "options": {"stride": 2}}}
    third = world.run(changed, handler)

    assert (first["reused"], second["reused"], third["reused"]) == (False, True, False)
    assert second == {**first, "reused": True}
    assert third["frames"] == NUM_FRAMES / 2


@pytest.mark.parametrize(("every_frames", "num_cleared"), [(1, 4), (8, 3), (9, 2), (0, 0)])
def test_cache_is_cleared_as_often_as_asked(world: World, every_frames: int, num_cleared: int) -> None:
    """30 frames in batches of 8, 8, 8 and 6: after the batch in which so many frames are full, or never."""
    world.every_frames = every_frames
    world.run(world.job(f"clear-{every_frames}"))

    assert world.models.num_cleared == num_cleared
    assert [len(batch) for batch in world.models.perception.batches] == [8, 8, 8, 6]


def test_options_reach_their_stages(world: World) -> None:
    """Trim, stride, smallest box and most people change what comes out as they say."""
    options = {"start_s": 0.4, "end_s": 0.8, "stride": 2, "max_people": 1}
    reply = world.run(world.job("options", options=options))
    lines = world.lines("options")
    assert reply["frames"] == 5
    assert [line["source_frame"] for line in lines] == [10, 12, 14, 16, 18]
    assert [[person["track_id"] for person in line["people"]] for line in lines] == [[1]] * 5

    small = world.run(world.job("small", options={"tracking": {"phalp.small_w": 100}}))
    assert small["people"] == 0
    assert [warning["code"] for warning in small["warnings"]] == ["NO_PEOPLE"]


def test_full_document_is_written_on_request(world: World) -> None:
    """`frames.json` holds the same frames as the lines."""
    reply = world.run(world.job("document", options={"artifacts": ["frames.json"]}))

    document = json.loads(world.bucket.get("document/frames.json"))
    assert document["frames"] == world.lines("document")
    kinds = [artifact["kind"] for artifact in reply["artifacts"]]
    assert kinds == ["frames.jsonl.gz", "frames.json", "result.json"]


def test_out_of_memory_once_loses_nothing(world: World) -> None:
    """A batch that did not fit is done again frame by frame, and the result is the same."""
    failures = iter([DeviceOutOfMemory("CUDA out of memory")])

    def before(indices: Any) -> None:
        if indices[0] == 8 and (error := next(failures, None)):
            raise error

    world.models = FakeModels(perception=FakePerception(before=before))
    assert world.run(world.job("oom-once"))["frames"] == NUM_FRAMES
    world.models = FakeModels()
    world.run(world.job("oom-never"))

    assert world.lines("oom-once") == world.lines("oom-never")


def nan_betas(index: int, found: PeopleInImage) -> PeopleInImage:
    """A network that breaks down in frame 12."""
    return replace(found, betas=found.betas * np.float32("nan")) if index == 12 else found


def failing(error: Exception) -> FakePerception:
    """A device that breaks down in frame 12."""

    def before(indices: Sequence[int]) -> None:
        if 12 in indices:
            raise error

    return FakePerception(before=before)


@pytest.mark.parametrize(
    ("perception", "code", "retryable", "refresh"),
    [
        (
            failing(DeviceOutOfMemory("x")),
            "GPU_OUT_OF_MEMORY",
            True,
            True,
        ),
        (failing(DeviceFault("x")), "GPU_FAULT", True, True),
        (FakePerception(after=nan_betas), "MODEL_OUTPUT_INVALID", False, None),
        (failing(RuntimeError(SECRET)), "INTERNAL", False, None),
        (failing(OSError(28, "no space")), "DISK_FULL", True, True),
    ],
    ids=["memory", "fault", "nan", "bug", "disk"],
)
def test_failures_of_the_models_have_codes(
    world: World, perception: FakePerception, code: str, retryable: bool, refresh: bool | None
) -> None:
    """Whatever a model does in the middle of a video, the reply says so, and no result is stored."""
    world.models = FakeModels(perception=perception)
    reply = world.run(world.job(f"fails-{code}"))

    assert (reply["error_code"], reply["retryable"], reply["stage"]) == (code, retryable, "perceive")
    assert reply.get("refresh_worker") is refresh
    assert world.bucket.keys(f"fails-{code}") == []


def test_pose_predictor_that_breaks_down_is_noticed(world: World) -> None:
    """What the tracker's own network raises has a code and its stage."""

    class Broken(FakePosePredictor):
        def predict_next(self, *arguments: Any, **options: Any) -> np.ndarray:
            raise ModelOutputInvalid("not finite")

    world.models = FakeModels(pose_predictor=Broken())
    reply = world.run(world.job("broken-predictor"))
    assert (reply["error_code"], reply["stage"]) == ("MODEL_OUTPUT_INVALID", "track")


@pytest.mark.parametrize(
    ("fault", "code", "stage"),
    [
        (Fault(status=404), "DOWNLOAD_NOT_FOUND", "download"),
        (Fault(status=403), "DOWNLOAD_DENIED", "download"),
        (Fault(redirect=f"http://127.0.0.1:1/{QUERY}"), "DOWNLOAD_FAILED", "download"),
        (Fault(data=b"this is no video"), "VIDEO_UNREADABLE", "probe"),
    ],
    ids=["404", "403", "redirect", "text"],
)
def test_failures_of_the_source_have_codes(world: World, fault: Fault, code: str, stage: str) -> None:
    """A video that cannot be had fails in its stage, before a model is asked."""
    reply = world.run(world.job(f"source-{code}", None, *[fault] * 5))

    assert (reply["error_code"], reply["stage"]) == (code, stage)
    assert world.models.perception.batches == []


def test_full_disk_has_a_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that cannot be written end the job as DISK_FULL."""
    real = pipeline.write

    def write_to_full_disk(frames: Any, *, into: Path, **options: Any) -> Any:
        (into / "frames.jsonl.gz").symlink_to("/dev/full")
        return real(frames, into=into, **options)

    monkeypatch.setattr(pipeline, "write", write_to_full_disk)
    reply = world.run(world.job("full-disk"))

    assert (reply["error_code"], reply["stage"], reply["refresh_worker"]) == ("DISK_FULL", "write", True)


def run_alone(world: World, job: dict[str, Any], control: JobControl, report: Report) -> Reply:
    """The job's work without the handler around it, in this thread."""
    request, input_sha256 = parse(job)
    with world.scratch.job() as folder:
        work = Work(
            job_id=job["id"],
            request=request,
            input_sha256=input_sha256,
            folder=folder,
            control=control,
            report=report,
        )
        return pipeline.run(work, world.models, world.settings())


def test_failed_stage_leaves_nothing_running(world: World) -> None:
    """Threads and files are closed by the time the error comes out, not when its traceback is forgotten."""
    world.models = FakeModels(perception=failing(DeviceFault("x")))
    world.limits = {"decode_queue_frames": 1}  # the decoder is in the middle of the clip
    with pytest.raises(ComputeError) as caught:
        run_alone(
            world, world.job("closed"), JobControl(time_budget_seconds=60.0), Report(lambda message: None)
        )
    assert world.leftovers() == []
    assert caught.value.code == "GPU_FAULT"


@pytest.mark.parametrize("stage", ["download", "probe", "decode", "perceive", "track", "overlay", "upload"])
def test_job_is_cancelled_in_each_stage(world: World, stage: str) -> None:
    """Wherever a stop comes, the job ends at its next check, with nothing stored and nothing left."""
    control = JobControl(time_budget_seconds=60.0)

    def stop(_: object = None) -> None:
        control.stop("CANCELLED", "by the caller")

    def publish(message: ProgressMessage) -> None:
        stages.append(message.stage)
        if message.stage == stage:
            stop()

    stages: list[str] = []
    if stage == "perceive":
        world.models = FakeModels(perception=FakePerception(before=stop))
    job = world.job(f"cancel-{stage}", options={"artifacts": ["overlay.mp4"]})
    with pytest.raises(WorkerError, match="CANCELLED"):
        run_alone(world, job, control, Report(publish))
    assert stages[-1] == ("decode" if stage == "perceive" else stage)
    assert world.bucket.keys(f"cancel-{stage}") == []


def test_job_that_hangs_in_a_model_is_stalled(world: World) -> None:
    """A model that never comes back fails the job, which is answered without it."""
    release = threading.Event()
    world.models = FakeModels(perception=FakePerception(before=lambda indices: release.wait(30) and None))
    world.limits = {"stall_seconds": 0.5}
    reply = world.run(world.job("hangs"))
    release.set()
    deadline = time.monotonic() + 10
    while world.leftovers() and time.monotonic() < deadline:
        time.sleep(0.01)  # the abandoned job ends by itself, and cleans up

    assert (reply["error_code"], reply["refresh_worker"]) == ("STALLED", True)
