"""Draw training crops and keep what BlazePose says about each, plain and mirrored, with the answer.

Knows nothing about the head. Shards are independent and seeded by their number, so that a run can be
continued, and two machines can share the work.

    python -m training.make_features build/features 0 50      # shards 0 to 49, 1,000 crops each
"""

import sys
import time
from pathlib import Path

import numpy as np

from model_cache.lite.backbone import measure
from model_cache.lite.blazepose import BlazePose
from training.body import Body
from training.crops import draw_crop, draw_places
from training.poses import EVERYDAY, VARIED, Mix

SHARD = 1000
NUM_PLACES = 60
VARIED_SHARDS = 30  # of every pose alike; later ones of people as they mostly are


def main() -> None:
    """Write the shards that are not there yet."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    body, network = Body(), BlazePose(1)
    for number in range(first, last):
        target = folder / f"{number:04d}.npz"
        if target.exists():
            continue
        started = time.perf_counter()
        mix = VARIED if number < VARIED_SHARDS else EVERYDAY
        write_shard(target, np.random.default_rng([7, number]), body, network, mix)
        print(f"shard {number}: {time.perf_counter() - started:.0f} s", flush=True)


def write_shard(target: Path, rng: np.random.Generator, body: Body, network: BlazePose, mix: Mix) -> None:
    """One shard: patches (n, 2, 64, 292) and landmarks (n, 2, 33, 8), [:, 1] mirrored, and the truth."""
    places = draw_places(rng, NUM_PLACES)
    crops = [draw_crop(rng, body, places, mix=mix) for _ in range(SHARD)]
    patches = np.empty((SHARD, 2, 64, 292), np.float16)
    landmarks = np.empty((SHARD, 2, 33, 8), np.float16)
    for index, crop in enumerate(crops):
        for mirrored, pixels in enumerate((crop.image_bgr, crop.image_bgr[:, ::-1])):
            seen = measure(network, np.ascontiguousarray(pixels[..., ::-1], np.float32) / 255)
            patches[index, mirrored], landmarks[index, mirrored] = seen.patches, seen.landmarks
    unfinished = target.with_suffix(".part.npz")
    np.savez(
        unfinished,
        patches=patches,
        landmarks=landmarks,
        **{
            name: np.stack([getattr(crop, name) for crop in crops])
            for name in ("rotations", "betas", "crop_cam", "joints", "keypoints")
        },
    )
    unfinished.rename(target)


if __name__ == "__main__":
    main()
