"""Scores the files of a finished job against a synthetic clip's truth.

python -m benchmarks.result_accuracy RESULTS_FOLDER CLIP.mp4
"""

import argparse
import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from benchmarks.accuracy_clip import ClipScorer, FoundFrame, Scores, Tracked
from benchmarks.accuracy_pose import PlacedBody
from benchmarks.clip_truth import read_truth
from handler.camera import Intrinsics

Json = dict[str, Any]


def score_result(folder: Path, clip: Path) -> Scores:
    """Compare a result of any profile with the truth beside the clip; lost people do not count as found.

    Shape coefficients belong to one body; those of another body than the clip's are left out.
    """
    from model_cache.lite.files import LITE_FOLDER
    from model_cache.networks.smpl import SmplBody
    from model_cache.store.load import load_body

    summary = json.loads((folder / "result.json").read_bytes())
    camera = Intrinsics(**{name: summary["camera"][name] for name in ("fx", "fy", "cx", "cy")})
    same_body = summary["models"]["body_model"] == "free"
    found, tracked = [], []
    for record in read_frames(folder):
        people = [person for person in record["people"] if person["state"] == "tracked"]
        found.append(
            FoundFrame(
                index=record["source_frame"],
                bbox_xyxy=np.array([person["bbox_xyxy"] for person in people], np.float64).reshape(-1, 4),
                bodies=[_placed_body(person["smpl"], camera, same_body) for person in people],
            )
        )
        ids = np.array([person["track_id"] for person in people], np.int64)
        tracked.append(Tracked(rows=np.arange(len(ids)), ids=ids))
    body = SmplBody(load_body(LITE_FOLDER / "body.npz"))
    return ClipScorer(found, read_truth(clip), body, skin=False).tracked(tracked)


def read_frames(folder: Path) -> Iterator[Json]:
    """The records of a result's frames, one at a time."""
    with gzip.open(folder / "frames.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _placed_body(smpl: Json, camera: Intrinsics, same_body: bool) -> PlacedBody:
    numbers = np.array([*smpl["global_orient"], *smpl["body_pose"]])
    is_axis_angle = len(numbers) == 72
    rotations = (
        Rotation.from_rotvec(numbers.reshape(24, 3)).as_matrix()
        if is_axis_angle
        else numbers.reshape(24, 3, 3)
    )
    return PlacedBody(
        rotations=rotations.astype(np.float32),
        betas=np.array(smpl["betas"] if same_body else [0.0] * 10, np.float32),
        translation=np.array(smpl["transl"], np.float32),
        camera=camera,
    )


def main() -> None:
    """Print the scores of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("clip", type=Path)
    arguments = parser.parse_args()
    scores = asdict(score_result(arguments.folder, arguments.clip))
    for name, value in {**scores.pop("tracking"), **scores}.items():
        print(f"{name:20s} {value:.4g}")


if __name__ == "__main__":
    main()
