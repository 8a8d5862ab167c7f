"""Keep the textures that perception takes from people in clips, with whose they are.

Clips are independent and seeded by their number, so that a run can be
continued, and two processes or machines can share the work.

    python -m training.make_textures build/textures 0 60      # clips 0 to 59, about 190 textures each
"""

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from model_cache.interfaces import Models, PerceptionOptions
from model_cache.load import load
from model_cache.networks.appearance import UvTexture
from model_cache.settings import ModelSettings
from training.body import Body
from training.clips import ClipFrame, ClipPlan, draw_clip

RATE = 5.0  # frames a second
NUM_PEOPLE = (3, 4, 4, 5)
OPTIONS = PerceptionOptions(masks=True, small_w=25, small_h=60)
COLOUR_STEP = 1.2 / 127  # colours are stored as bytes
SEEN = 0.3  # least share of the found pixels that are of the person


def main() -> None:
    """Write the clips that are not there yet."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    models, body = load(ModelSettings(models="lite")), Body()
    for number in range(first, last):
        target = folder / f"{number:04d}.npz"
        if target.exists():
            continue
        started = time.perf_counter()
        rng = np.random.default_rng([17, number])
        plan = ClipPlan(
            seed=int(rng.integers(1_000_000, 2**31)),  # far from the seeds that are scored
            num_people=int(rng.choice(NUM_PEOPLE)),
            rate=RATE,
        )
        num = write_clip(target, plan, body, models)
        print(f"clip {number}: {num} textures, {time.perf_counter() - started:.0f} s", flush=True)


def write_clip(target: Path, plan: ClipPlan, body: Body, models: Models) -> int:
    """One clip's textures (n, 4, 256, 256) as bytes, with person, frame, score and purity of each.

    Purity is the share of the found pixels that are the person's.
    """
    maps, facts = [], []
    for index, frame in enumerate(draw_clip(plan, body)):
        (people,) = models.perception.perceive([frame.image_bgr], [index], OPTIONS)
        assert people.mask_rle is not None
        for rle, texture, score in zip(people.mask_rle, people.textures, people.scores, strict=True):
            person, purity = _whose(rle, frame)
            if purity >= SEEN:
                assert isinstance(texture, UvTexture)
                maps.append(to_bytes(texture.texels.numpy()))
                facts.append((person, index, float(score), purity))
    person, index, score, purity = zip(*facts, strict=True)
    unfinished = target.with_suffix(".part.npz")
    np.savez_compressed(
        unfinished,
        maps=np.stack(maps),
        person=np.array(person),
        frame=np.array(index),
        score=np.array(score, np.float32),
        purity=np.array(purity, np.float32),
    )
    unfinished.rename(target)
    return len(maps)


def to_bytes(texels: NDArray[np.float32]) -> NDArray[np.int8]:
    """Three colours and a mask (4, 256, 256) as bytes."""
    stored = np.empty(texels.shape, np.int8)
    stored[:3] = np.clip(np.round(texels[:3] / COLOUR_STEP), -127, 127)
    stored[3] = texels[3]
    return stored


def _whose(rle: bytes, frame: ClipFrame) -> tuple[int, float]:
    """The person most of a found mask's pixels are of, and their share."""
    mask = coco_mask.decode({"size": list(frame.owners.shape), "counts": rle}) > 0
    counts = np.bincount(frame.owners[mask] + 1, minlength=len(frame.own_pixels) + 1)[1:]
    person = int(counts.argmax())
    return person, float(counts[person] / max(mask.sum(), 1))


if __name__ == "__main__":
    main()
