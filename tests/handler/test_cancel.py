"""However a job is stopped, it ends at its next check with nothing stored and nothing left."""

import threading
import time

import pytest

from handler.context import JobControl
from handler.errors import ComputeError, ErrorCode, WorkerError
from handler.job import ProgressMessage
from handler.progress import Report
from model_cache.errors import DeviceFault
from tests.fakes import FakeModels, FakePerception
from tests.handler.rig import Rig, before_frame


@pytest.mark.parametrize("stage", ["download", "probe", "decode", "perceive", "track", "overlay", "upload"])
def test_job_is_cancelled_in_each_stage(rig: Rig, stage: str) -> None:
    """Wherever a stop comes, the job ends at its next check, with nothing stored and nothing left."""
    control = JobControl(time_budget_seconds=60.0)

    def stop(_: object = None) -> None:
        control.stop(ErrorCode.CANCELLED, "by the caller")

    def publish(message: ProgressMessage) -> None:
        stages.append(message.stage)
        if message.stage == stage:
            stop()

    stages: list[str] = []
    if stage == "perceive":
        rig.models = FakeModels(perception=FakePerception(before=stop))
    job = rig.job(f"cancel-{stage}", options={"artifacts": ["overlay.mp4"]})
    with pytest.raises(WorkerError, match="CANCELLED"):
        rig.run_alone(job, control, Report(publish))
    assert stages[-1] == ("decode" if stage == "perceive" else stage)
    assert rig.bucket.keys(f"cancel-{stage}") == []


def test_failed_stage_leaves_nothing_running(rig: Rig) -> None:
    """Threads and files are closed by the time the error comes out, not when its traceback is forgotten."""
    rig.models = FakeModels(perception=before_frame(12, DeviceFault("x")))
    rig.limits = {"decode_queue_frames": 1}  # the decoder is in the middle of the clip
    with pytest.raises(ComputeError) as caught:
        rig.run_alone(rig.job("closed"), JobControl(time_budget_seconds=60.0), Report(lambda message: None))
    assert rig.leftovers() == []
    assert caught.value.code == "GPU_FAULT"


def test_job_that_hangs_in_a_model_is_stalled(rig: Rig) -> None:
    """A model that never comes back fails the job, which is answered without it."""
    release = threading.Event()
    rig.models = FakeModels(perception=FakePerception(before=lambda indices: release.wait(30) and None))
    rig.limits = {"stall_seconds": 0.5}
    reply = rig.run(rig.job("hangs"))
    release.set()
    deadline = time.monotonic() + 10
    while rig.leftovers() and time.monotonic() < deadline:
        time.sleep(0.01)  # the abandoned job ends by itself, and cleans up

    assert (reply["error_code"], reply["refresh_worker"]) == ("STALLED", True)
    assert rig.bucket.keys("hangs") == []
