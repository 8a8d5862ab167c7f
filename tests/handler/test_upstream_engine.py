"""Whole jobs through ENGINE=upstream, with stand-ins for the official objects: as any other engine's jobs."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from handler.context import JobControl
from handler.errors import ErrorCode, WorkerError
from handler.progress import Report
from model_cache.interfaces import Models
from model_cache.upstream.load import UpstreamModels
from model_cache.upstream.perception import UpstreamPerception
from model_cache.upstream.shims import Official
from tests.fakes import DESCRIPTION as FAKE_DESCRIPTION
from tests.fakes import FakeBody, FakeModels, FakePosePredictor, FakeTextureModel
from tests.handler.rig import NUM_FRAMES, Rig
from tests.model_cache.upstream.standins import OUT_OF_MEMORY, ColourModel, StandInTracker

DESCRIPTION = replace(FAKE_DESCRIPTION, models="official", engine="upstream", notice="stand-ins")


def engine(
    model: ColourModel,
    trackers: list[StandInTracker] | None = None,
    fail: Callable[[int], None] = lambda index: None,
) -> UpstreamModels:
    """The engine as a worker has it; its trackers are added to `trackers` and call `fail` in each frame."""
    cpu, begun = torch.device("cpu"), [] if trackers is None else trackers

    def new_tracker(config: Any, metric: Any, *, n_init: int, max_age: int, **more: Any) -> StandInTracker:
        begun.append(StandInTracker(n_init, max_age))
        begun[-1].before = fail
        return begun[-1]

    official = Official(
        metric=SimpleNamespace(NearestNeighborDistanceMetric=lambda *arguments: None),
        tracker=SimpleNamespace(Tracker=new_tracker),
    )
    return UpstreamModels(
        perception=UpstreamPerception(
            model=model, detector=lambda image, index: None, body=FakeBody(), device=cpu
        ),
        texture=FakeTextureModel(),
        pose_predictor=FakePosePredictor(),
        body=FakeBody(),
        description=DESCRIPTION,
        official=official,
        model=model,
        device=cpu,
    )


def who_is_where(lines: list[dict[str, Any]]) -> list[list[tuple[object, ...]]]:
    """Identities, states and boxes of all frames."""
    return [[(p["track_id"], p["state"], tuple(p["bbox_xyxy"])) for p in line["people"]] for line in lines]


def test_job_gives_the_same_people_progress_and_reply(rig: Rig) -> None:
    """Ids, states and boxes in every frame, progress and the reply's keys are the same."""
    reply = rig.run(rig.job("ours"))
    told = rig.progress[-1]
    rig.progress.clear()
    models = engine(ColourModel())
    assert isinstance(models, Models)
    rig.models = models

    theirs = rig.run(rig.job("theirs"))

    assert theirs.keys() == reply.keys()
    assert (theirs["status"], theirs["frames"], theirs["people"]) == ("completed", NUM_FRAMES, 2)
    last = rig.progress[-1]
    assert (last.stage, last.frames_done, last.people) == (told.stage, NUM_FRAMES, told.people)
    done = [message.frames_done for message in rig.progress]
    assert sorted(done) == done
    assert who_is_where(rig.lines("theirs")) == who_is_where(rig.lines("ours"))
    assert rig.summary("theirs")["models"]["engine"] == "upstream"


def test_each_job_begins_anew_and_leaves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids start at 1 in every job; frames come singly, the cache is cleared after each; nothing is kept."""
    cleared: list[int] = []
    monkeypatch.setattr(UpstreamModels, "clear_cache", lambda self: cleared.append(len(model.seen)))
    model, trackers = ColourModel(), []
    rig.models = engine(model, trackers)
    options = {"tracking": {"phalp.n_init": 3}}

    for job_id in ("first", "second"):
        rig.run(rig.job(job_id, options=options))

    assert who_is_where(rig.lines("first")) == who_is_where(rig.lines("second"))
    assert {p["track_id"] for line in rig.lines("second") for p in line["people"]} == {1, 2}
    assert model.seen == [*range(NUM_FRAMES)] * 2
    assert set(range(1, 2 * NUM_FRAMES + 1)) <= set(cleared)
    assert [tracker.tracked_cost for tracker in trackers] == [{}, {}]
    assert model.cfg.phalp.n_init == 5  # the job's 3 stayed in the job


def test_a_cancelled_job_asks_the_official_code_no_more(rig: Rig) -> None:
    """After a cancel the job ends at its next check, with nothing stored."""
    control = JobControl(time_budget_seconds=60.0)
    model = ColourModel(
        before=lambda index: control.stop(ErrorCode.CANCELLED, "enough") if index == 12 else None
    )
    rig.models = engine(model)

    with pytest.raises(WorkerError, match="CANCELLED"):
        rig.run_alone(rig.job("cancelled"), control, Report(lambda message: None))

    assert len(model.seen) <= 12 + 1 + rig.settings().worker.perceive_ahead_batches + 1
    assert rig.bucket.keys("cancelled") == []


def failing(error: Exception) -> Callable[[int], None]:
    """Raises in frame 12."""

    def before(index: int) -> None:
        if index == 12:
            raise error

    return before


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "GPU_FAULT"),
        (AttributeError("'int' object has no attribute 'item'"), "INTERNAL"),
    ],
    ids=["out of memory", "device fault", "bug"],
)
@pytest.mark.parametrize("stage", ["perceive", "track"])
def test_what_the_official_code_raises_fails_the_job(
    rig: Rig, error: Exception, code: str, stage: str
) -> None:
    """Their own loop would print it and go on without a result; here it has a code, and nothing is stored."""
    if stage == "perceive":
        rig.models = engine(ColourModel(before=failing(error)))
    else:
        rig.models = engine(ColourModel(), fail=failing(error))

    reply = rig.run(rig.job(f"fails-{code}-{stage}"))

    assert (reply["error_code"], reply["stage"]) == (code, stage)
    assert rig.bucket.keys(f"fails-{code}-{stage}") == []


def test_numbers_that_are_not_finite_fail_the_job(rig: Rig) -> None:
    """NaN of the official networks has a code."""
    model = ColourModel()
    model.betas = float("nan")
    rig.models = engine(model)

    assert rig.run(rig.job("nan"))["error_code"] == "MODEL_OUTPUT_INVALID"


def test_a_jobs_limits_hold(rig: Rig) -> None:
    """`max_people`, `stride` and the part of the clip mean the same as with our engine."""
    options = {"max_people": 1, "stride": 2, "start_s": 0.4, "tracking": {"phalp.n_init": 2}}
    rig.models = FakeModels()
    rig.run(rig.job("limits-ours", options=options))
    model = ColourModel()
    rig.models = engine(model)

    rig.run(rig.job("limits-theirs", options=options))

    lines = rig.lines("limits-theirs")
    assert who_is_where(lines) == who_is_where(rig.lines("limits-ours"))
    assert [line["source_frame"] for line in lines] == list(range(10, NUM_FRAMES, 2))
    assert {len(line["people"]) for line in lines} == {1}
