"""Make a `.pkl` like that of 4D-Humans' track.py from the frames of a result with `profile=full`.

python examples/as_phalp.py out/frames.jsonl.gz demo_clip.pkl      # for joblib.load
"""

import gzip
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = {"bbox": 4, "center": 2, "camera": 3, "camera_bbox": 3, "3d_joints": (45, 3), "2d_joints": 90}
SMPL = {"global_orient": (1, 3, 3), "body_pose": (23, 3, 3), "betas": 10}
PLAIN = ("tracked_time", "scale", "size", "conf", "extra_data")
OTHERS = ("tid", "tracked_ids", "tracked_bbox", "smpl", "mask", "class_name", "annotations")


def phalp_results(frames: Path) -> dict[str, dict[str, Any]]:
    """PHALP's dictionary: an entry for each frame, its values lists with an element for each person."""
    results: dict[str, dict[str, Any]] = {}
    measured: dict[int, dict[str, Any]] = {}
    with gzip.open(frames, "rt") as lines:
        for frame in map(json.loads, lines):
            name = f"{frame['source_frame'] + 1:06d}.jpg"
            entry = {"time": frame["frame"], "shot": frame["shot"], "frame_path": name}
            results[name] = entry | {key: [] for key in (*SHAPES, *PLAIN, *OTHERS)}
            for person in frame["people"]:
                if person["state"] == "tracked":
                    measured[person["track_id"]] = person
                add(person, measured.get(person["track_id"], person), results[name])
    return results


def add(person: dict[str, Any], last: dict[str, Any], entry: dict[str, Any]) -> None:
    """Append a person; PHALP repeats the last measurement of somebody who is lost."""
    phalp = person["phalp"]
    values = {key: np.array(phalp[key], np.float32).reshape(shape) for key, shape in SHAPES.items()}
    values |= {key: phalp[key] for key in PLAIN}
    values["smpl"] = {
        part: np.array(last["smpl"][part], np.float32).reshape(shape) for part, shape in SMPL.items()
    }
    values |= {"tid": person["track_id"], "class_name": 0, "annotations": []}
    values["mask"] = [last["mask"]] if "mask" in last else []
    if person is last:
        values |= {"tracked_ids": person["track_id"], "tracked_bbox": values["bbox"]}
    for key, value in values.items():
        entry[key].append(value)


if __name__ == "__main__":
    try:
        frames, pickled = sys.argv[1:]
        Path(pickled).write_bytes(pickle.dumps(phalp_results(Path(frames))))
    except ValueError:
        sys.exit(__doc__)
    except KeyError:
        sys.exit("these frames were not made with profile=full")
    except OSError as error:
        sys.exit(f"{error.filename}: {error.strerror}")
