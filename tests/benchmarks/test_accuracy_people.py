"""People in true boxes and in the mean pose, and scores of result files."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.accuracy_clip import ClipScorer
from benchmarks.accuracy_people import TRUE_OPTIONS, found_frame, mean_people, perceive, true_detections
from benchmarks.clip_truth import ClipTruth, read_truth
from benchmarks.result_accuracy import score_result
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


FRAMES = range(0, 60, 10)


def write_truth(folder: Path, truth: ClipTruth, *, matrices: bool, body_model: str = "free") -> None:
    """A result in which everybody who counts is found as they are, and a ghost is expected besides."""
    camera = {"fx": truth.focal_length_px, "fy": truth.focal_length_px, "cx": 320.0, "cy": 180.0}
    summary = {"camera": camera, "models": {"body_model": body_model}}
    (folder / "result.json").write_text(json.dumps(summary))
    with gzip.open(folder / "frames.jsonl.gz", "wt") as lines:
        for t in FRAMES:
            people = [record_of(truth, t, p, matrices) for p in np.flatnonzero(truth.who_counts(t)).tolist()]
            ghost = people[0] | {"track_id": 99, "state": "predicted", "bbox_xyxy": [0.0, 0.0, 50.0, 50.0]}
            lines.write(json.dumps({"source_frame": t, "people": [*people, ghost]}) + "\n")


def record_of(truth: ClipTruth, t: int, person: int, matrices: bool) -> dict:
    """One person as a line has it."""
    rotations = truth.rotations[t, person]
    numbers = rotations if matrices else Rotation.from_matrix(rotations).as_rotvec()
    flat = numbers.reshape(24, -1).astype(float)
    return {
        "track_id": person + 1,
        "state": "tracked",
        "bbox_xyxy": truth.bbox_xyxy[t, person].tolist(),
        "smpl": {
            "global_orient": flat[0].tolist(),
            "body_pose": flat[1:].ravel().tolist(),
            "betas": truth.betas[person].tolist(),
            "transl": truth.translation[t, person].tolist(),
        },
    }


@pytest.mark.parametrize("matrices", [False, True])
def test_the_truth_as_a_result_is_perfect(truth, tmp_path, matrices):
    """Everybody found once, no error, and people who are only expected do not count."""
    write_truth(tmp_path, truth, matrices=matrices)
    scores = score_result(tmp_path, CLIP)

    assert (scores.recall, scores.precision, scores.idf1, scores.switches) == (1, 1, 1, 0)
    assert (scores.mpjpe_mm, scores.pa_mpjpe_mm, scores.pixels) == pytest.approx((0, 0, 0), abs=0.1)


def test_shapes_of_another_body_are_left_out(truth, tmp_path):
    """The coefficients of another body say nothing about this one; its mean shape is near."""
    write_truth(tmp_path, truth, matrices=False, body_model="smpl")
    scores = score_result(tmp_path, CLIP)

    assert 1 < scores.mpjpe_mm < 60
    assert scores.recall == 1
