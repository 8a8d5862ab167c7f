"""Whole jobs over what is odd, broken or not to be had: each with its documented outcome.

Downloads, decoding and buckets are looked at closely in `transfer/`, `source/` and `results/`; here it is
what the caller gets.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handler.settings import BucketSettings, WorkerSettings
from handler.transfer.attempts import LONGEST_WAIT_SECONDS
from model_cache.errors import DeviceFault, DeviceOutOfMemory, ModelOutputInvalid
from model_cache.interfaces import People
from tests.fakes import FakeModels, FakePerception, FakePosePredictor
from tests.fault_proxy import Answer, FaultProxy, Stall, fault_proxy
from tests.handler.rig import FPS, NUM_FRAMES, SECRET, Rig, before_frame, boxes_of, make_clip
from tests.http_source import Fault
from tests.video_factory import damage, make_audio, make_still

METADATA = "http://169.254.169.254/latest/meta-data/"
PLAYLIST = b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n"
NOBODY_LISTENS = {"endpoint_url": "http://127.0.0.1:1", "connect_seconds": 0.7}
NO_BUCKET = dict.fromkeys(("name", "access_key_id", "secret_access_key"))


@pytest.mark.parametrize(
    ("wrong", "code", "stage", "retryable"),
    [
        ({"fault": Fault(status=403)}, "DOWNLOAD_DENIED", "download", False),
        ({"fault": Fault(status=404)}, "DOWNLOAD_NOT_FOUND", "download", False),
        ({"fault": Fault(status=500)}, "DOWNLOAD_FAILED", "download", True),
        ({"fault": Fault(stall_after=2000)}, "DOWNLOAD_FAILED", "download", True),
        ({"fault": Fault(silent=True), "download_seconds": 0.3}, "DOWNLOAD_FAILED", "download", True),
        ({"max_bytes": 1000}, "VIDEO_TOO_LARGE", "download", False),
        ({"fault": Fault(redirect=METADATA)}, "URL_NOT_ALLOWED", "download", False),
        ({"allow_private_addresses": False}, "URL_NOT_ALLOWED", "download", False),
        ({"allow_http": False}, "URL_NOT_ALLOWED", "download", False),
        ({"reserve_disk_bytes": 2**60}, "DISK_FULL", "download", True),
        ({"content": b""}, "VIDEO_UNREADABLE", "probe", False),
        ({"content": PLAYLIST}, "VIDEO_UNREADABLE", "probe", False),
        ({"make": lambda path: make_still(path.with_suffix(".png"))}, "VIDEO_UNREADABLE", "probe", False),
        ({"make": make_audio}, "VIDEO_HAS_NO_FRAMES", "probe", False),
        ({"make": partial(make_clip, truncated=0.5, faststart=False)}, "VIDEO_UNREADABLE", "probe", False),
        ({"bucket": NOBODY_LISTENS}, "UPLOAD_FAILED", "upload", True),
        ({"bucket": {"secret_access_key": "another"}}, "UPLOAD_DENIED", "upload", False),
        ({"bucket": {"name": "no-such-bucket"}}, "UPLOAD_DENIED", "upload", False),
        ({"bucket": {"name": "Not A Bucket!"}}, "OUTPUT_NOT_ALLOWED", "upload", False),
        ({"bucket": NO_BUCKET}, "OUTPUT_NOT_ALLOWED", "validate", False),
    ],
)
def test_job_that_cannot_be_done_ends_before_a_model_is_asked(
    rig, tmp_path, wrong, code, stage, retryable
) -> None:
    """It fails in its stage and stores nothing; without a place for its results no video is fetched."""
    limits = dict(wrong)
    fault, content, make, bucket = (limits.pop(key, None) for key in ("fault", "content", "make", "bucket"))
    rig.intake, rig.stored = {"read_seconds": 0.5, **limits}, bucket or {}
    clip = make(tmp_path / "clip.mp4") if make else content
    reply = rig.run(rig.job("refused", clip, always=fault))

    assert (reply["error_code"], reply["stage"], reply["retryable"]) == (code, stage, retryable)
    assert rig.models.perception.batches == []
    assert rig.bucket.keys("refused") == []
    assert rig.source.requests == [] or not bucket


def test_odd_video_keeps_its_size_turn_and_times(rig: Rig, tmp_path: Path) -> None:
    """An odd width and height, a turned picture and uneven times come through, for the overlay too."""
    times = [0.04 * index + 0.5 * (index > 6) for index in range(12)]
    odd = {"size": (321, 241), "rotation": 90, "pixel_format": "yuv444p"}
    clip = make_clip(tmp_path / "odd.mp4", num_frames=12, times=times, **odd)
    rig.run(rig.job("odd", clip, options={"artifacts": ["overlay.mp4"]}))

    source, lines = rig.summary("odd")["source"], rig.lines("odd")
    facts = [source[name] for name in ("width", "height", "rotation_deg", "is_vfr")]
    assert facts == [321, 241, 90, True]
    assert [line["time_s"] for line in lines] == pytest.approx(times, abs=1e-5)
    places = [[person["bbox_xyxy"] for person in line["people"]] for line in lines]
    assert places == [[[float(side) for side in boxes_of(index)["red"]]] for index in range(12)]


def test_video_of_one_frame_is_a_video(rig: Rig, tmp_path: Path) -> None:
    """One line; nobody, since a track needs `n_init` measurements, unless one is enough."""
    clip = make_clip(tmp_path / "one.mp4", num_frames=1)
    assert rig.run(rig.job("one", clip))["people"] == 0
    assert [len(line["people"]) for line in rig.lines("one")] == [0]
    reply = rig.run(rig.job("one-at-once", clip, options={"tracking": {"phalp.n_init": 1}}))

    assert (reply["frames"], reply["people"]) == (1, 1)
    assert [person["track_id"] for person in rig.lines("one-at-once")[0]["people"]] == [1]


def test_damage_in_the_middle_is_counted(rig: Rig, tmp_path: Path) -> None:
    """The job goes on behind the damage, at the right times, and says which frames are damaged."""
    whole = make_clip(tmp_path / "clip.mp4", num_frames=150, gop=15)
    reply = rig.run(rig.job("damaged", damage(whole, start=0.4, end=0.5, num_bytes=60, seed=1)))

    lines = rig.lines("damaged")
    corrupt = [line["frame"] for line in lines if line.get("corrupt")]
    assert "FRAMES_CORRUPT" in rig.warnings("damaged")
    assert rig.summary("damaged")["quality"]["corrupt_frames"] == len(corrupt) > 0
    assert reply["frames"] == len(lines) > 120
    assert [line["time_s"] for line in lines[-20:]] == [index / FPS for index in range(130, 150)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_missing_end_behind_the_part_is_told_and_harms_nothing(rig: Rig, tmp_path: Path, name: str) -> None:
    """A file that breaks off behind `end_s` has all that was asked for."""
    data = make_clip(tmp_path / name, num_frames=120).read_bytes()
    clip = tmp_path / name
    clip.write_bytes(data[: len(data) * 6 // 10 | 1])
    for job_id, options, is_truncated in (("all", {}, True), ("part", {"end_s": 0.5}, False)):
        reply = rig.run(rig.job(f"{name}-{job_id}", clip, options=options))

        processed = rig.summary(f"{name}-{job_id}")["processed"]
        assert (processed["truncated"], processed["reason"] is not None) == (is_truncated, is_truncated)
        assert "VIDEO_CUT_OFF" in rig.warnings(f"{name}-{job_id}")
        assert (reply["frames"] == 13) == (not is_truncated)
        assert reply["frames"] == len(rig.lines(f"{name}-{job_id}")) < 120


@pytest.mark.usefixtures("unchecked_types")
def test_any_damage_gets_a_coded_reply(rig: Rig, tmp_path: Path) -> None:
    """Random bytes anywhere in a file, or behind its header: a result, or an error that is no bug."""
    whole = make_clip(tmp_path / "clip.mp4").read_bytes()
    handler = rig.handler()
    for seed in range(24):
        path = tmp_path / "damaged.mp4"
        path.write_bytes(whole)
        damage(path, start=0.05 * (seed % 2), end=1.0, num_bytes=4 ** (seed % 4 + 1), seed=seed)
        reply = rig.run(rig.job(f"any-{seed}", path), handler)
        assert str(reply.get("error_code", "VIDEO_")).startswith("VIDEO_"), reply
        assert reply.get("frames", 0) <= NUM_FRAMES


def test_out_of_memory_once_loses_nothing(rig: Rig) -> None:
    """A batch that did not fit is done again frame by frame, and the result is the same."""
    failures = iter([DeviceOutOfMemory("CUDA out of memory")])

    def before(indices: Any) -> None:
        if indices[0] == 8 and (error := next(failures, None)):
            raise error

    rig.models = FakeModels(perception=FakePerception(before=before))
    assert rig.run(rig.job("oom-once"))["frames"] == NUM_FRAMES
    rig.models = FakeModels()
    rig.run(rig.job("oom-never"))

    assert rig.lines("oom-once") == rig.lines("oom-never")


def nan_betas(index: int, found: People) -> People:
    """A network that breaks down in frame 12."""
    return replace(found, betas=found.betas * np.float32("nan")) if index == 12 else found


class BrokenPredictor(FakePosePredictor):
    """Raises what the tracker's own network may raise."""

    def predict_next(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise ModelOutputInvalid("not finite")


@pytest.mark.parametrize(
    ("broken", "code", "retryable", "refresh"),
    [
        (before_frame(12, DeviceOutOfMemory("x")), "GPU_OUT_OF_MEMORY", True, True),
        (before_frame(12, DeviceFault("x")), "GPU_FAULT", True, True),
        (FakePerception(after=nan_betas), "MODEL_OUTPUT_INVALID", False, None),
        (before_frame(12, RuntimeError(SECRET)), "INTERNAL", False, None),
        (before_frame(12, OSError(28, "no space")), "DISK_FULL", True, True),
        (BrokenPredictor(), "MODEL_OUTPUT_INVALID", False, None),
    ],
    ids=["out of memory always", "device fault", "nan", "bug", "disk full", "predictor"],
)
def test_failures_of_the_models_have_codes(rig, broken, code, retryable, refresh) -> None:
    """Whatever a model does in the middle of a video, the reply says so, and no result is stored."""
    is_predictor = isinstance(broken, FakePosePredictor)
    rig.models = FakeModels(**{"pose_predictor" if is_predictor else "perception": broken})
    stage = "track" if is_predictor else "perceive"
    reply = rig.run(rig.job(f"fails-{code}-{stage}"))

    assert (reply["error_code"], reply["retryable"], reply["stage"]) == (code, retryable, stage)
    assert reply.get("refresh_worker") is refresh
    assert rig.bucket.keys(f"fails-{code}-{stage}") == []


IMPATIENT = {"connect_seconds": 0.7, "read_seconds": 0.7, "attempts": 2}


@pytest.fixture
def proxy(rig: Rig) -> Iterator[FaultProxy]:
    """What the worker takes for its bucket."""
    with fault_proxy(rig.bucket.endpoint_url) as proxy:
        rig.stored = {"endpoint_url": proxy.url, **IMPATIENT}
        yield proxy


def later(rig: Rig, proxy: FaultProxy, fault: Answer | Stall) -> None:
    """Let the fault begin when the last frames are perceived: after the first look, before the uploads."""
    rig.models = FakeModels(perception=before_frame(NUM_FRAMES - 1, lambda: proxy.begin(fault)))


@pytest.mark.parametrize("fault", [Answer(status=503), Stall(after_bytes=1000)], ids=["503", "stalled"])
def test_bucket_that_fails_at_the_end_has_a_code(rig, proxy, request, fault) -> None:
    """UPLOAD_FAILED, worth a retry; no summary, so nobody takes the rest for complete."""
    job_id = f"bucket-{request.node.callspec.id}"
    later(rig, proxy, fault)
    job = rig.job(job_id)
    reply = rig.run(job)

    assert (reply["error_code"], reply["stage"], reply["retryable"]) == ("UPLOAD_FAILED", "upload", True)
    assert rig.bucket.keys(job_id) == []

    proxy.fault = None
    rig.models = FakeModels()
    again = rig.run(job)
    assert (again["status"], again["reused"]) == ("completed", False)
    assert len(rig.lines(job_id)) == NUM_FRAMES


def test_upload_url_that_cannot_work_is_noticed_before_any_work(rig: Rig) -> None:
    """A header that the store would miss is named before the video is fetched."""
    put = rig.bucket.presign("put_object", "signed/frames.jsonl.gz", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    reply = rig.run(rig.job("signed", output={"put_urls": {"result.json": put, "frames.jsonl.gz": put}}))

    assert (reply["error_code"], reply["stage"]) == ("INPUT_INVALID", "validate")
    assert "content-md5" in reply["error"]
    assert rig.source.requests == []


def test_silent_bucket_fails_as_such(rig: Rig, proxy: FaultProxy) -> None:
    """UPLOAD_FAILED, and the worker stays: waiting for a store is no stall, however long it takes."""
    proxy.fault = Stall()
    rig.limits = {"stall_seconds": 1.0}
    reply = rig.run(rig.job("silent"))

    assert (reply["error_code"], reply["retryable"]) == ("UPLOAD_FAILED", True)
    assert "refresh_worker" not in reply


def test_limits_of_a_silent_bucket_stay_below_the_stall() -> None:
    """By default even a look that is tried to the end is over before anybody calls the job stalled."""
    bucket, worker = BucketSettings(), WorkerSettings()
    waits = bucket.attempts * (bucket.connect_seconds + bucket.read_seconds + LONGEST_WAIT_SECONDS)
    assert waits < worker.stall_seconds
