"""The loop around an official tracker: what it takes, what it gives, what it does not let grow."""

import numpy as np
import pytest
import torch

from model_cache.errors import DeviceOutOfMemory
from model_cache.interfaces import FrameTracker, TrackerOptions, TrackState
from model_cache.upstream.perception import OfficialPerson
from model_cache.upstream.tracking import UpstreamTracker, job_settings
from tests.model_cache.upstream.standins import (
    OUT_OF_MEMORY,
    StandInTracker,
    stand_in_config,
    stand_in_detection,
)

CPU = torch.device("cpu")


def tracker_of(stand_in: StandInTracker) -> UpstreamTracker:
    """The engine's tracker around a stand-in."""
    return UpstreamTracker(stand_in, stand_in_config(), CPU)


def people(*names: str, pose: float = 0.0) -> list[OfficialPerson]:
    """The people of a frame, by name."""
    return [OfficialPerson(detection=stand_in_detection(name, pose=pose)) for name in names]


def test_states_say_who_is_who():
    """Matched tracks name their detection, new ones too, lost ones none."""
    tracker = tracker_of(StandInTracker())
    assert isinstance(tracker, FrameTracker)
    for frame in range(3):
        tracker.update(people("ann", "bob"), frame, shot=False)

    states = tracker.update(people("cem", "bob"), 3, shot=False)

    assert [(s.track_id, s.detection, s.confirmed) for s in states] == [
        (1, None, True),
        (2, 1, True),
        (3, 0, False),
    ]


def test_a_lost_track_says_what_was_expected_of_it_in_this_frame():
    """The expectation is the one from before the frame, not the one for the next."""
    tracker = tracker_of(StandInTracker(n_init=2))
    for frame, pose in enumerate((1.0, 2.0)):
        tracker.update(people("ann", pose=pose), frame, shot=False)

    lost: TrackState = tracker.update([], 2, shot=False)[0]

    assert lost.detection is None
    assert lost.expected_pose is not None
    np.testing.assert_array_equal(lost.expected_pose, np.full(229, 3.0))


def test_frames_are_counted_as_the_job_counts_them():
    """A detection's time is the frame's index in the job, and the shot flag reaches tracker and settings."""
    official, config = StandInTracker(), stand_in_config()
    tracker = UpstreamTracker(official, config, CPU)

    tracker.update(people("ann"), 0, shot=False)
    tracker.update(people("ann"), 1, shot=True)

    assert official.times == [0, 1]
    assert official.shots == [0, 1]
    assert config.phalp.shot == 1


def test_what_the_official_tracker_collects_is_taken_out():
    """Its record of all frames stays empty; the newest one is handed on."""
    official = StandInTracker()
    tracker = tracker_of(official)
    for frame in range(200):
        tracker.update(people("ann", "bob") if frame % 3 else [], frame, shot=False)
        assert not official.tracked_cost

    assert tracker.last is not None
    assert tracker.last.cost.shape == (0, 0) or len(tracker.last.cost) == len(tracker.last.ids)


def test_out_of_memory_is_the_coded_error():
    """The official code knows no errors of ours."""
    official = StandInTracker()

    def fail() -> None:
        raise OUT_OF_MEMORY

    official.predict = fail  # type: ignore[method-assign]
    with pytest.raises(DeviceOutOfMemory):
        tracker_of(official).update(people("ann"), 0, shot=False)


def test_people_of_another_engine_are_refused():
    """A handle that is not the engine's own is a programming error, not a silent nobody."""
    with pytest.raises(TypeError, match="not a person of this engine"):
        tracker_of(StandInTracker()).update(["a texture"], 0, shot=False)


def test_a_jobs_options_stay_in_the_job():
    """Options are set in a copy of the settings."""
    config = stand_in_config()

    own = job_settings(config, TrackerOptions(n_init=2, alpha=0.3))

    assert (own.phalp.n_init, own.phalp.alpha) == (2, 0.3)
    assert (config.phalp.n_init, config.phalp.alpha) == (5, 0.1)
