"""A whole job with an engine that tracks people itself: the same document, one frame at a time."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from handler.control import JobControl
from handler.errors import WorkerError
from handler.job import JobInput
from handler.pipeline import LocalRun, run
from handler.progress import Report
from handler.settings import IntakeSettings, Settings
from handler.work import Work
from model_cache.errors import DeviceOutOfMemory
from model_cache.interfaces import FrameTracker, Texture, TrackerOptions
from tests.fakes import FakeModels, draw_people
from tests.handler.people.test_follow import ByColour
from tests.video_factory import make_video

NUM_FRAMES = 12
RED, GREEN = (16, 64, 80, 208), (200, 64, 264, 208)


@dataclass
class TrackingModels(FakeModels):
    """Fake models with a tracker of their own; remembers each job's options."""

    most_frames: int | None = 1
    begun: list[TrackerOptions] = field(default_factory=list)
    fails_at: int = -1

    def begin_tracking(self, options: TrackerOptions) -> FrameTracker:
        """A tracker that knows people by their colour."""
        self.begun.append(options)
        fails_at = self.fails_at

        class Failing(ByColour):
            def update(self, people: Sequence[Texture], frame_index: int, *, shot: bool) -> list:
                if frame_index == fails_at:
                    raise DeviceOutOfMemory("a pair of textures does not fit")
                return super().update(people, frame_index, shot=shot)

        return Failing(options.n_init)


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


def job(models: FakeModels, clip: Path, out: Path, control: JobControl | None = None) -> list[dict]:
    """The frames of a local job's results."""
    (out / "job").mkdir(parents=True)
    work = Work(
        job_id="seam",
        request=JobInput.model_validate(
            {"video_url": "unused", "options": {"tracking": {"phalp.n_init": 3}, "profile": "full"}}
        ),
        input_sha256="0" * 64,
        folder=out / "job",
        control=control or JobControl(time_budget_seconds=600.0),
        report=Report(lambda message: None),
    )
    settings = Settings(intake=IntakeSettings(reserve_disk_bytes=0))
    run(work, models, settings, LocalRun(out=out, video=clip))
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


def test_an_engines_failure_fails_the_job(clip: Path, tmp_path: Path) -> None:
    """Nothing is swallowed: what the engine's tracker raises ends the job."""
    with pytest.raises(Exception, match="does not fit"):
        job(TrackingModels(fails_at=4), clip, tmp_path)


def test_a_cancelled_job_stops_within_a_frame(clip: Path, tmp_path: Path) -> None:
    """The engine's tracker is asked no more once the job is cancelled."""
    control = JobControl(time_budget_seconds=600.0)
    models = TrackingModels()
    models.perception.before = lambda indices: control.stop("CANCELLED", "enough") if 5 in indices else None

    with pytest.raises(WorkerError) as raised:
        job(models, clip, tmp_path, control)

    assert raised.value.code == "CANCELLED"
