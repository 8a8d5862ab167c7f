"""Draw training crops and keep what BlazePose says about each, plain and mirrored, with the answer.

Shards are independent and seeded by their number, so that a run can be
continued, and two processes or machines can share the work.

    python -m training.make_features build/features 0 60      # shards 0 to 59, 1,000 crops each
"""

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from model_cache.lite.backbone import measure
from model_cache.lite.blazepose import BlazePose
from model_cache.lite.detector import LiteDetector
from training.body import Body
from training.crops import Crop, draw_crop, draw_places
from training.found import find_crops
from training.poses import EVERYDAY, VARIED

SHARD = 1000
NUM_PLACES = 60
VARIED_SHARDS = range(30)  # of every pose alike
EVERYDAY_SHARDS = range(30, 40)  # of people as they mostly are
FOUND_SHARDS = range(40, 60)  # of people as the detector finds them in clips
TRUTH = ("rotations", "betas", "crop_cam", "joints", "keypoints")


def main() -> None:
    """Write the shards that are not there yet."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    network = BlazePose(1)
    for number in range(first, last):
        target = folder / f"{number:04d}.npz"
        if target.exists():
            continue
        started = time.perf_counter()
        write_shard(target, itertools.islice(draw_crops(number), SHARD), network)
        print(f"shard {number}: {time.perf_counter() - started:.0f} s", flush=True)


def draw_crops(number: int) -> Iterator[Crop]:
    """The crops of a shard and then more of its kind, without end."""
    rng, body = np.random.default_rng([7, number]), Body()
    if number in FOUND_SHARDS:
        yield from find_crops(rng, body, LiteDetector(1))
    places = draw_places(rng, NUM_PLACES)
    mix = VARIED if number in VARIED_SHARDS else EVERYDAY
    while True:
        yield draw_crop(rng, body, places, mix=mix)


def write_shard(target: Path, crops: Iterator[Crop], network: BlazePose) -> None:
    """One shard: patches (n, 2, 64, 292) and landmarks (n, 2, 33, 8), [:, 1] mirrored, and the truth."""
    patches = np.empty((SHARD, 2, 64, 292), np.float16)
    landmarks = np.empty((SHARD, 2, 33, 8), np.float16)
    truth: dict[str, list[np.ndarray]] = {name: [] for name in TRUTH}
    for index, crop in enumerate(crops):
        for mirrored, pixels in enumerate((crop.image_bgr, crop.image_bgr[:, ::-1])):
            seen = measure(network, np.ascontiguousarray(pixels[..., ::-1], np.float32) / 255)
            patches[index, mirrored], landmarks[index, mirrored] = seen
        for name, values in truth.items():
            values.append(getattr(crop, name))
    unfinished = target.with_suffix(".part.npz")
    np.savez(
        unfinished,
        patches=patches,
        landmarks=landmarks,
        **{name: np.stack(values) for name, values in truth.items()},
    )
    unfinished.rename(target)


if __name__ == "__main__":
    main()
