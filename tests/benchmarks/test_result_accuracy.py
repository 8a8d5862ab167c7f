"""Scores of result files: the truth written as a result is perfect, in either way of writing rotations."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.clip_truth import ClipTruth, read_truth
from benchmarks.result_accuracy import score_result
from tests.model_cache.lite.shipped_clip import CLIP

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
def test_the_truth_as_a_result_is_perfect(tmp_path, matrices):
    """Everybody found once, no error, and people who are only expected do not count."""
    write_truth(tmp_path, read_truth(CLIP), matrices=matrices)
    scores = score_result(tmp_path, CLIP)

    assert (scores.recall, scores.precision, scores.idf1, scores.switches) == (1, 1, 1, 0)
    assert scores.mpjpe_mm == pytest.approx(0, abs=0.1)
    assert scores.pa_mpjpe_mm == pytest.approx(0, abs=0.1)
    assert scores.pixels == pytest.approx(0, abs=0.1)


def test_shapes_of_another_body_are_left_out(tmp_path):
    """The coefficients of another body say nothing about this one; its mean shape is near."""
    write_truth(tmp_path, read_truth(CLIP), matrices=False, body_model="smpl")
    scores = score_result(tmp_path, CLIP)

    assert 1 < scores.mpjpe_mm < 60
    assert scores.recall == 1
