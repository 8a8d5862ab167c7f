"""People in true boxes, and people in the mean pose."""

import numpy as np
import pytest

from benchmarks.accuracy_clip import ClipScorer
from benchmarks.accuracy_people import TRUE_OPTIONS, found_frame, mean_people, perceive, true_detections
from benchmarks.clip_truth import read_truth
from tests.fakes import FakeBody, FakePerception
from tests.model_cache.lite.shipped_clip import CLIP


@pytest.fixture(scope="module")
def truth():
    """What is in the shipped clip."""
    return read_truth(CLIP)


@pytest.fixture(scope="module")
def frame(truth) -> int:
    """A frame in which somebody does not count, and not the last person."""
    return next(t for t in range(len(truth.times)) if not truth.who_counts(t)[:-1].all())


def test_a_perfect_detector_finds_those_who_count(truth, frame):
    """One detection for each, its box tight around its mask, and nobody else."""
    found = true_detections(truth, frame)

    assert len(found.scores) == len(found.masks) == truth.who_counts(frame).sum()
    for box, mask in zip(found.bbox_xyxy, found.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_mean_people_stand_in_their_boxes(truth, frame):
    """Everybody who counts, with the middle of the body in the box."""
    (people,) = mean_people(truth, [frame])

    assert len(people.bodies) == truth.who_counts(frame).sum()
    for body, box in zip(people.bodies, people.bbox_xyxy, strict=True):
        x, y, z = body.translation
        pixel = body.camera.fx * x / z + body.camera.cx, body.camera.fy * y / z + body.camera.cy
        assert box[0] < pixel[0] < box[2]
        assert box[1] < pixel[1] < box[3]


def test_frames_with_nobody_are_scored(truth):
    """A clip in which nothing is found has recall 0 and no errors to take means of."""
    empty = [(t, t / 25, np.full((360, 640, 3), 128, np.uint8)) for t in (0, 1)]
    people = perceive(iter(empty), FakePerception(), TRUE_OPTIONS)
    scores = ClipScorer([found_frame(one) for one in people], truth, FakeBody()).detected()

    assert (scores.recall, scores.precision) == (0, 0)
    assert np.isnan(scores.mpjpe_mm)
