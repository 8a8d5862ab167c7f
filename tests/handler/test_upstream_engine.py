"""Whole jobs through ENGINE=upstream, with stand-ins for the official objects: as any other engine's jobs."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from model_cache.interfaces import Models
from model_cache.upstream.load import UpstreamModels
from model_cache.upstream.perception import UpstreamPerception
from model_cache.upstream.shims import Official
from tests.fakes import DESCRIPTION, FakeBody
from tests.handler.rig import NUM_FRAMES, Rig
from tests.model_cache.upstream.standins import (
    OUT_OF_MEMORY,
    ColourModel,
    StandInTracker,
)


def engine(
    model: ColourModel,
    trackers: list[StandInTracker] | None = None,
    before: Callable[[int], None] = lambda index: None,
) -> UpstreamModels:
    """The engine as a worker has it; its trackers are added to `trackers`, and call `before` every frame."""
    cpu, begun = torch.device("cpu"), [] if trackers is None else trackers

    def new_tracker(config: Any, metric: Any, *, n_init: int, max_age: int, **more: Any) -> StandInTracker:
        begun.append(StandInTracker(n_init, max_age, before))
        return begun[-1]

    official = Official(
        metric=SimpleNamespace(NearestNeighborDistanceMetric=lambda *arguments: None),
        tracker=SimpleNamespace(Tracker=new_tracker),
    )
    return UpstreamModels(
        perception=UpstreamPerception(
            model=model, detector=lambda image, index: None, body=FakeBody(), device=cpu
        ),
        body=FakeBody(),
        description=replace(DESCRIPTION, engine="upstream"),
        official=official,
        model=model,
        device=cpu,
    )


def who_is_where(lines: list[dict[str, Any]]) -> list[list[tuple[object, ...]]]:
    """Identities, states and boxes of all frames."""
    return [[(p["track_id"], p["state"], tuple(p["bbox_xyxy"])) for p in line["people"]] for line in lines]


LIMITS = {"max_people": 1, "stride": 2, "start_s": 0.4, "tracking": {"phalp.n_init": 2}}


@pytest.mark.parametrize(
    ("options", "frames"), [({}, range(NUM_FRAMES)), (LIMITS, range(10, NUM_FRAMES, 2))], ids=["all", "part"]
)
def test_job_gives_the_same_people_progress_and_reply(rig, options, frames) -> None:
    """Ids, states and boxes in every frame, progress and the reply's keys are the same; limits hold."""
    ours, theirs = f"ours-{len(frames)}", f"theirs-{len(frames)}"
    reply = rig.run(rig.job(ours, options=options))
    told = rig.progress[-1]
    rig.progress.clear()
    models = engine(ColourModel())
    assert isinstance(models, Models)
    rig.models = models

    other = rig.run(rig.job(theirs, options=options))

    assert other.keys() == reply.keys()
    assert (other["status"], other["frames"], other["people"]) == ("completed", len(frames), reply["people"])
    assert reply["people"] == options.get("max_people", 2)
    last = rig.progress[-1]
    assert (last.stage, last.frames_done, last.people) == (told.stage, len(frames), told.people)
    done = [message.frames_done for message in rig.progress]
    assert sorted(done) == done
    assert who_is_where(rig.lines(theirs)) == who_is_where(rig.lines(ours))
    assert [line["source_frame"] for line in rig.lines(theirs)] == list(frames)
    assert rig.summary(theirs)["models"]["engine"] == "upstream"


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
def test_what_the_official_code_raises_fails_the_job(rig, error, code, stage) -> None:
    """Their own loop would print it and go on without a result; here it has a code, and nothing is stored."""

    def fail(index: int) -> None:
        if index == 12:
            raise error

    here = {"before": fail} if stage == "perceive" else {}
    there = {"before": fail} if stage == "track" else {}
    rig.models = engine(ColourModel(**here), **there)

    reply = rig.run(rig.job(f"fails-{code}-{stage}"))

    assert (reply["error_code"], reply["stage"]) == (code, stage)
    assert rig.bucket.keys(f"fails-{code}-{stage}") == []
