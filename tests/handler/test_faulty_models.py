"""Whole jobs whose models or disk fail in the middle: a coded reply, and nothing stored as if complete."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handler import pipeline
from model_cache.errors import DeviceFault, DeviceOutOfMemory, ModelOutputInvalid
from model_cache.interfaces import People
from tests.fakes import FakeModels, FakePerception, FakePosePredictor
from tests.handler.rig import NUM_FRAMES, SECRET, Rig, before_frame


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


@pytest.mark.parametrize(
    ("perception", "code", "retryable", "refresh"),
    [
        (before_frame(12, DeviceOutOfMemory("x")), "GPU_OUT_OF_MEMORY", True, True),
        (before_frame(12, DeviceFault("x")), "GPU_FAULT", True, True),
        (FakePerception(after=nan_betas), "MODEL_OUTPUT_INVALID", False, None),
        (before_frame(12, RuntimeError(SECRET)), "INTERNAL", False, None),
        (before_frame(12, OSError(28, "no space")), "DISK_FULL", True, True),
    ],
    ids=["out of memory always", "device fault", "nan", "bug", "disk full"],
)
def test_failures_of_the_models_have_codes(
    rig: Rig, perception: FakePerception, code: str, retryable: bool, refresh: bool | None
) -> None:
    """Whatever a model does in the middle of a video, the reply says so, and no result is stored."""
    rig.models = FakeModels(perception=perception)
    reply = rig.run(rig.job(f"fails-{code}"))

    assert (reply["error_code"], reply["retryable"], reply["stage"]) == (code, retryable, "perceive")
    assert reply.get("refresh_worker") is refresh
    assert rig.bucket.keys(f"fails-{code}") == []


def test_pose_predictor_that_breaks_down_is_noticed(rig: Rig) -> None:
    """What the tracker's own network raises has a code and its stage."""

    class Broken(FakePosePredictor):
        def predict_next(self, *arguments: Any, **options: Any) -> np.ndarray:
            raise ModelOutputInvalid("not finite")

    rig.models = FakeModels(pose_predictor=Broken())
    reply = rig.run(rig.job("broken-predictor"))
    assert (reply["error_code"], reply["stage"]) == ("MODEL_OUTPUT_INVALID", "track")


def test_full_disk_has_a_code(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that cannot be written end the job as DISK_FULL."""
    real = pipeline.write

    def write_to_full_disk(frames: Any, *, into: Path, **options: Any) -> Any:
        (into / "frames.jsonl.gz").symlink_to("/dev/full")
        return real(frames, into=into, **options)

    monkeypatch.setattr(pipeline, "write", write_to_full_disk)
    reply = rig.run(rig.job("full-disk"))

    assert (reply["error_code"], reply["stage"], reply["refresh_worker"]) == ("DISK_FULL", "write", True)
    assert rig.bucket.keys("full-disk") == []


def test_disk_without_room_for_the_video_has_a_code(rig: Rig) -> None:
    """A video that would eat into the reserve is not fetched."""
    rig.intake = {"reserve_disk_bytes": 2**60}
    reply = rig.run(rig.job("no-room"))

    assert (reply["error_code"], reply["stage"], reply["refresh_worker"]) == ("DISK_FULL", "download", True)
    assert rig.models.perception.batches == []
