"""However a job is stopped, it ends at its next check with nothing stored and nothing left."""

import threading
import time

import pytest

from handler.context import JobControl
from handler.errors import ComputeError, WorkerError
from handler.job import ProgressMessage
from handler.progress import Report
from model_cache.errors import DeviceFault
from tests.fakes import FakeModels, FakePerception
from tests.handler.world import World, before_frame


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
        world.run_alone(job, control, Report(publish))
    assert stages[-1] == ("decode" if stage == "perceive" else stage)
    assert world.bucket.keys(f"cancel-{stage}") == []


def test_failed_stage_leaves_nothing_running(world: World) -> None:
    """Threads and files are closed by the time the error comes out, not when its traceback is forgotten."""
    world.models = FakeModels(perception=before_frame(12, DeviceFault("x")))
    world.limits = {"decode_queue_frames": 1}  # the decoder is in the middle of the clip
    with pytest.raises(ComputeError) as caught:
        world.run_alone(
            world.job("closed"), JobControl(time_budget_seconds=60.0), Report(lambda message: None)
        )
    assert world.leftovers() == []
    assert caught.value.code == "GPU_FAULT"


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
    assert world.bucket.keys("hangs") == []
