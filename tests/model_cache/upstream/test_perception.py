"""The code around the official model and tracker, which are stand-ins here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model_cache.errors import ModelOutputInvalid
from model_cache.interfaces import FrameTracker, Perception, PerceptionOptions
from model_cache.networks.detector import Detections, ReplayDetector
from model_cache.upstream.perception import OfficialPerson, ReplacedDetector, UpstreamPerception
from model_cache.upstream.tracking import UpstreamTracker
from tests.fakes import FakeBody
from tests.model_cache.upstream.standins import (
    StandInModel,
    StandInTracker,
    stand_in_config,
    stand_in_detection,
)

CPU = torch.device("cpu")
IMAGE = np.zeros((300, 400, 3), np.uint8)
BOXES = [[0.0, 0, 60, 200], [100, 0, 160, 200], [200, 0, 220, 200], [300, 0, 360, 200]]
SCORES = [0.9, 0.99, 0.95, 0.7]


def perception_of(model: StandInModel) -> tuple[UpstreamPerception, list[int]]:
    """The engine's perception around a stand-in, and the frame indices its detector has seen."""
    seen: list[int] = []
    perception = UpstreamPerception(
        model=model, detector=lambda image, index: seen.append(index), body=FakeBody(), device=CPU
    )
    assert isinstance(perception, Perception)
    return perception, seen


def test_people_come_with_their_boxes_and_official_numbering():
    """Narrow and doubtful people are dropped; who is left keeps the number from before the size filter."""
    perception, seen = perception_of(StandInModel(BOXES, SCORES))

    image = perception.perceive([IMAGE], [7], PerceptionOptions(masks=True))[0]

    assert seen == [7]
    assert image.detection_index.tolist() == [0, 1]
    assert [t.detection.detection_data["extra_data"] for t in image.textures] == [0, 1]
    np.testing.assert_array_equal(image.bbox_xyxy, np.array(BOXES[:2], np.float32))
    np.testing.assert_array_equal(image.bbox_padded_xyxy[:, 0], [-1, 99])
    assert image.mask_rle == ("mask of 0", "mask of 100")


def test_a_jobs_options_reach_the_official_filters():
    """A lower threshold and smaller boxes let the others in, and `max_people` keeps the best."""
    perception, _ = perception_of(StandInModel(BOXES, SCORES))
    everybody = PerceptionOptions(score_threshold=0.5, small_w=10, small_h=10)

    assert len(perception.perceive([IMAGE], [0], everybody)[0].scores) == 4
    best = replace(everybody, max_people=2)
    assert perception.perceive([IMAGE], [0], best)[0].detection_index.tolist() == [1, 2]


def test_nobody_is_an_empty_record_and_nan_an_error():
    """A frame without people has arrays of the right shapes; NaN of the networks is a coded error."""
    perception, _ = perception_of(StandInModel([], []))

    _, image = perception.perceive([IMAGE, IMAGE], [0, 1], PerceptionOptions(masks=True))

    assert image.body_pose.shape == (0, 23, 3, 3)
    assert image.mask_rle == ()
    perception, _ = perception_of(StandInModel(BOXES, SCORES, betas=float("nan")))

    with pytest.raises(ModelOutputInvalid):
        perception.perceive([IMAGE], [0], PerceptionOptions())


def test_another_detector_speaks_detectron2s_names():
    """PHALP's filters (class, then score) work on what a replaced detector gives."""
    found = Detections(
        bbox_xyxy=np.array(BOXES, np.float32),
        scores=np.array(SCORES, np.float32),
        masks=np.ones((4, 300, 400), bool),
    )

    instances = ReplacedDetector(ReplayDetector({5: found}))(IMAGE, 5)["instances"]
    instances = instances[instances.pred_classes == 0]
    instances = instances[instances.scores > 0.8]

    assert instances.pred_boxes.tensor.shape == (3, 4)
    assert instances.pred_masks.shape == (3, 300, 400)


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
