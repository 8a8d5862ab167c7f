"""A whole job with an engine that tracks people itself: the same document, one frame at a time."""

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from handler.pipeline import LocalRun, run
from model_cache.interfaces import FrameTracker, TrackerOptions
from tests.fakes import FakeModels, draw_people
from tests.handler.people.test_follow import ByColour
from tests.handler.rig import local_context, local_settings
from tests.video_factory import make_video

NUM_FRAMES = 12
RED, GREEN = (16, 64, 80, 208), (200, 64, 264, 208)


@dataclass
class TrackingModels(FakeModels):
    """Fake models with a tracker of their own; remembers each job's options."""

    most_frames: int | None = 1
    begun: list[TrackerOptions] = field(default_factory=list)

    def begin_tracking(self, options: TrackerOptions) -> FrameTracker:
        """A tracker that knows people by their colour."""
        self.begun.append(options)
        return ByColour(options.n_init)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person all the time, a second one in the middle."""
    return make_video(
        tmp_path_factory.mktemp("clip") / "clip.mp4",
        num_frames=NUM_FRAMES,
        size=(320, 240),
        draw=lambda index, size: draw_people(
            {"red": RED, "green": GREEN} if 3 <= index < 10 else {"red": RED}, size
        ),
    )


def job(models: FakeModels, clip: Path, out: Path) -> list[dict]:
    """The frames of a local job's results."""
    options = {"tracking": {"phalp.n_init": 3}, "profile": "full"}
    context = local_context(out / "job", options)
    run(context, models, local_settings(out), LocalRun(out=out, video=clip))
    with gzip.open(next(out.rglob("frames.jsonl.gz")), "rt") as lines:
        return [json.loads(line) for line in lines]


def test_the_document_is_the_same_as_with_our_tracker(clip: Path, tmp_path: Path) -> None:
    """Same people with the same numbers in every frame; one frame per pass, the cache cleared after each."""
    models = TrackingModels()

    theirs = job(models, clip, tmp_path / "theirs")
    ours = job(FakeModels(), clip, tmp_path / "ours")

    assert [len(batch) for batch in models.perception.batches] == [1] * NUM_FRAMES
    assert models.num_cleared >= NUM_FRAMES
    assert [options.n_init for options in models.begun] == [3]
    for frame in (*theirs, *ours):
        for person in frame["people"]:
            person.pop("expected", None)  # the two trackers expect different places, of course
            if person["state"] == "predicted":
                for key in set(person) - {"track_id", "state"}:
                    person.pop(key)
    assert theirs == ours
