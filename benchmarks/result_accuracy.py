"""Scores the files of a finished job against a synthetic clip's truth. Knows nothing of models or pipelines.

python -m benchmarks.result_accuracy RESULTS_FOLDER CLIP.mp4
"""

import argparse
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from benchmarks import accuracy_scores as scores
from benchmarks.clip_truth import ClipTruth, read_truth

FOUND = 0.5  # least IoU of boxes
BARELY_SEEN = 0.25  # a box that overlaps somebody hardly visible this much is no mistake
# of SMPL's 24: hips, knees, ankles, neck, head, shoulders, elbows, wrists
BODY_JOINTS = [1, 2, 4, 5, 7, 8, 12, 15, 16, 17, 18, 19, 20, 21]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultScores:
    """What a result is worth.

    Attributes:
        recall: share of the people who should be found that were.
        precision: share of the found people who are there.
        idf1: identity F1.
        switches: identity switches.
        mpjpe_mm: mean joint error after moving the pelvis onto the true one.
        pa_mpjpe_mm: the same after the best rotation, scale and shift.
        pixels: mean joint error in the picture.
    """

    recall: float
    precision: float
    idf1: float
    switches: int
    mpjpe_mm: float
    pa_mpjpe_mm: float
    pixels: float


def score_result(folder: Path, clip: Path) -> ResultScores:
    """Compare `frames.jsonl.gz` in a folder (profile standard) with the truth beside the clip."""
    truth = read_truth(clip)
    true_joints = _true_joints(truth)
    mpjpe, pa_mpjpe, pixels = [], [], []
    pairs: list[tuple[int, int]] = []
    history: dict[int, list[int]] = {p: [] for p in range(len(truth.betas))}
    num_expected = num_found = num_false = num_hit = 0
    for record in read_frames(folder):
        t = record["source_frame"]
        people = [person for person in record["people"] if person["state"] == "tracked"]
        boxes = np.array([person["bbox_xyxy"] for person in people], np.float64).reshape(-1, 4)
        overlap = np.nan_to_num(scores.box_iou(truth.bbox_xyxy[t].astype(np.float64), boxes))
        expected = {p for p in range(len(truth.betas)) if truth.counts(t, p)}
        matches = scores.match(overlap, FOUND)
        matched = {f for _, f in matches}
        num_expected += len(expected)
        num_false += sum(f not in matched and overlap[:, f].max() < BARELY_SEEN for f in range(len(people)))
        for p, f in matches:
            if p not in expected:
                continue
            num_hit += 1
            num_found += 1
            pairs.append((p, people[f]["track_id"]))
            history[p].append(people[f]["track_id"])
            found_3d = np.array(people[f]["joints_3d"]).reshape(24, 3)
            found_2d = np.array(people[f]["joints_2d"]).reshape(24, 2)
            true = true_joints[t, p]
            found_body, true_body = found_3d[BODY_JOINTS] - found_3d[0], true[BODY_JOINTS] - true[0]
            mpjpe.append(1000 * scores.mean_distance(found_body, true_body))
            aligned = scores.procrustes(found_body, true_body)
            pa_mpjpe.append(1000 * scores.mean_distance(aligned, true_body))
            middle = np.array(truth.owners.shape[:0:-1]) / 2
            seen = true[:, :2] / true[:, 2:] * truth.focal_length_px + middle
            pixels.append(scores.mean_distance(found_2d[BODY_JOINTS], seen[BODY_JOINTS]))
    return ResultScores(
        recall=num_hit / max(num_expected, 1),
        precision=num_hit / max(num_hit + num_false, 1),
        idf1=scores.idf1(pairs, num_expected, num_found + num_false) if pairs else 0.0,
        switches=sum(scores.identity_switches(ids) for ids in history.values()),
        mpjpe_mm=float(np.mean(mpjpe)) if mpjpe else float("inf"),
        pa_mpjpe_mm=float(np.mean(pa_mpjpe)) if pa_mpjpe else float("inf"),
        pixels=float(np.mean(pixels)) if pixels else float("inf"),
    )


def read_frames(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a result's frames, one at a time."""
    with gzip.open(folder / "frames.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _true_joints(truth: ClipTruth) -> ndarray:
    """SMPL's 24 joints of everybody in every frame, camera frame, metres: (t, p, 24, 3)."""
    from model_cache.lite.files import LITE_FOLDER
    from model_cache.networks.smpl import SmplBody
    from model_cache.store.load import load_body

    body = SmplBody(load_body(LITE_FOLDER / "body.npz"))
    num_frames, num_people = truth.translation.shape[:2]
    joints = np.empty((num_frames, num_people, 24, 3))
    for t in range(num_frames):
        rotations = truth.rotations[t].astype(np.float32)
        _, smpl_joints = body.joints(rotations[:, :1], rotations[:, 1:], truth.betas.astype(np.float32))
        joints[t] = smpl_joints + truth.translation[t][:, None]
    return joints


def main() -> None:
    """Print the scores of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("clip", type=Path)
    arguments = parser.parse_args()
    print(score_result(arguments.folder, arguments.clip))


if __name__ == "__main__":
    main()
