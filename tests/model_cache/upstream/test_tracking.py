"""The loop around an official tracker; tests/handler/test_upstream_engine.py runs whole jobs through it."""

import numpy as np
import pytest
import torch

from model_cache.interfaces import FrameTracker
from model_cache.upstream.perception import OfficialPerson
from model_cache.upstream.tracking import UpstreamTracker
from tests.model_cache.upstream.standins import StandInTracker, stand_in_config, stand_in_detection

CPU = torch.device("cpu")


def people(*names: str, pose: float = 0.0) -> list[OfficialPerson]:
    """The people of a frame, by name."""
    return [OfficialPerson(detection=stand_in_detection(name, pose=pose)) for name in names]


def test_a_lost_track_says_what_was_expected_of_it_in_this_frame():
    """The expectation is the one from before the frame, not the one for the next."""
    tracker = UpstreamTracker(StandInTracker(n_init=2), stand_in_config(), CPU)
    assert isinstance(tracker, FrameTracker)
    for frame, pose in enumerate((1.0, 2.0)):
        tracker.update(people("ann", pose=pose), frame, shot=False)

    lost = tracker.update([], 2, shot=False)[0]

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


def test_people_of_another_engine_are_refused():
    """A handle that is not the engine's own is a programming error, not a silent nobody."""
    with pytest.raises(TypeError, match="not a person of this engine"):
        UpstreamTracker(StandInTracker(), stand_in_config(), CPU).update(["a texture"], 0, shot=False)
