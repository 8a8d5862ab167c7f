"""Write a synthetic clip as mp4 and its truth as npz.

    python -m training.make_clip --seed 1 examples/four_people.mp4      # the shipped clip, under a minute

The truth holds per frame and person: body parameters, translation, boxes of the visible part, and whose each
pixel is. The coordinates are described in `read_truth`.
"""

import argparse
import dataclasses
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from training.body import Body
from training.clips import ClipFrame, ClipPlan, draw_clip

TIME_BASE = Fraction(1, 90_000)


def main() -> None:
    """Draw, encode, save."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--cut-at", type=float)
    parser.add_argument("--variable-rate", action="store_true")
    parser.add_argument("--pillar", action="store_true")
    options = parser.parse_args()
    plan = ClipPlan(
        seed=options.seed,
        num_people=options.people,
        seconds=options.seconds,
        cut_at=options.cut_at,
        variable_rate=options.variable_rate,
        pillar=options.pillar,
    )
    write_clip(plan, options.target)


def write_clip(plan: ClipPlan, target: Path) -> None:
    """`target` (mp4, H.264) and its truth beside it, `<stem>_truth.npz`."""
    frames: list[ClipFrame] = []
    with av.open(str(target), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(
            "libx264", rate=round(plan.rate), options={"crf": "24", "preset": "slow"}
        )
        stream.height, stream.width = plan.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        for frame in draw_clip(plan, Body()):
            picture = av.VideoFrame.from_ndarray(frame.image_bgr, format="bgr24")
            picture.pts, picture.time_base = round(frame.time / TIME_BASE), TIME_BASE
            container.mux(stream.encode(picture))
            frames.append(dataclasses.replace(frame, image_bgr=frame.image_bgr[:0]))
        container.mux(stream.encode())
    save_truth(frames, target.with_name(f"{target.stem}_truth.npz"))
    print(f"{target.name}: {len(frames)} frames, {target.stat().st_size / 1e6:.2f} MB")


def save_truth(frames: list[ClipFrame], target: Path) -> None:
    """All frames' truth in one compressed file."""
    owners = np.stack([frame.owners for frame in frames])
    np.savez_compressed(
        target,
        times=np.array([frame.time for frame in frames]),
        shots=np.array([frame.shot for frame in frames], np.int8),
        focal_length_px=frames[0].focal,
        bbox_xyxy=visible_boxes(owners, len(frames[0].betas)),
        visible_pixels=np.stack([(owners == p).sum((1, 2)) for p in range(len(frames[0].betas))], 1).astype(
            np.int32
        ),
        own_pixels=np.stack([frame.own_pixels for frame in frames]).astype(np.int32),
        rotations_6d=np.stack([frame.rotations[..., :2] for frame in frames]).astype(np.float16),
        betas=frames[0].betas,
        translation=np.stack([frame.translation for frame in frames]),
        owners_deflated=np.frombuffer(zlib.compress(owners.tobytes(), 9), np.uint8),
        owners_shape=np.array(owners.shape),
    )


def visible_boxes(owners: NDArray[np.int8], num_people: int) -> NDArray[np.float32]:
    """Boxes (t, p, 4) x1, y1, x2, y2 of each person's visible pixels; NaN where nothing is seen."""
    boxes = np.full((len(owners), num_people, 4), np.nan, np.float32)
    for t, owner in enumerate(owners):
        for p in range(num_people):
            mask = owner == p
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                boxes[t, p] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


if __name__ == "__main__":
    main()
