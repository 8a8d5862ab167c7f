"""Write tracking_scores.json: random trackings and what TrackEval says about them.

In an environment of its own, because TrackEval brings a second OpenCV:

    python -m pip install trackeval==1.3.0 && python tests/golden/record_tracking_scores.py
"""

import json
from pathlib import Path

import numpy as np
from trackeval.metrics import CLEAR, HOTA, Identity

TARGET = Path(__file__).with_name("tracking_scores.json")


def main() -> None:
    """Draw, score, save."""
    cases = []
    for seed in range(12):
        frames = draw(np.random.default_rng(seed), num_frames=30, num_people=2 + seed % 4)
        cases.append({"frames": frames, "scores": score(frames)})
    TARGET.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def draw(rng: np.random.Generator, num_frames: int, num_people: int) -> list[dict]:
    """People who come and go; tracks that break, swap, double and see things; similarities of every size."""
    track_of = {person: person + 1 for person in range(num_people)}
    next_track = num_people + 1
    frames = []
    for _ in range(num_frames):
        true = [person for person in range(num_people) if rng.uniform() < 0.85]
        if rng.uniform() < 0.1 and num_people > 1:
            a, b = rng.choice(num_people, 2, replace=False).tolist()
            track_of[a], track_of[b] = track_of[b], track_of[a]
        if rng.uniform() < 0.1:
            track_of[int(rng.integers(num_people))] = next_track
            next_track += 1
        owners = [person for person in true if rng.uniform() < 0.85]
        found = [track_of[person] for person in owners]
        for _ in range(rng.binomial(2, 0.15)):  # a mistake, or a second track on somebody
            track = next_track + int(rng.integers(3)) * 100
            if track not in found:
                found.append(track)
                owners.append(int(rng.choice(true)) if true and rng.uniform() < 0.5 else -1)
        similarity = [
            [round(float(rng.uniform(0.4, 1) if p == o else rng.uniform(0, 0.6)), 3) for o in owners]
            for p in true
        ]
        order = rng.permutation(len(found)).tolist()
        frames.append(
            {
                "true": true,
                "found": [found[i] for i in order],
                "similarity": [[row[i] for i in order] for row in similarity],
            }
        )
    return frames


def score(frames: list[dict]) -> dict[str, float]:
    """TrackEval's numbers at its own settings."""
    true_ids = sorted({i for frame in frames for i in frame["true"]})
    found_ids = sorted({i for frame in frames for i in frame["found"]})
    data = {
        "gt_ids": [np.array([true_ids.index(i) for i in f["true"]], int) for f in frames],
        "tracker_ids": [np.array([found_ids.index(i) for i in f["found"]], int) for f in frames],
        "similarity_scores": [
            np.array(f["similarity"], float).reshape(len(f["true"]), len(f["found"])) for f in frames
        ],
        "num_timesteps": len(frames),
        "num_gt_ids": len(true_ids),
        "num_tracker_ids": len(found_ids),
        "num_gt_dets": sum(len(f["true"]) for f in frames),
        "num_tracker_dets": sum(len(f["found"]) for f in frames),
    }
    quiet = {"PRINT_CONFIG": False}
    hota = HOTA().eval_sequence(data)
    clear = CLEAR(quiet).eval_sequence(data)
    return {
        "idf1": float(Identity(quiet).eval_sequence(data)["IDF1"]),
        "hota": float(hota["HOTA"].mean()),
        "det_a": float(hota["DetA"].mean()),
        "ass_a": float(hota["AssA"].mean()),
        "switches": int(clear["IDSW"]),
        "mota": float(clear["MOTA"]),
    }


if __name__ == "__main__":
    main()
