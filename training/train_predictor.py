"""Train the pose predictor of `set_predictor` further, on procedural motion with gaps and measurement errors.

The network class is the product's own.

    python -m training.train_predictor build/pose_predictor.pt --minutes 6
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from model_cache.networks.pose_transformer import PoseTransformer
from training.actors import Actor
from training.body import Body
from training.crops import UPSIDE
from training.set_predictor import CONFIG, predictor
from training.train_head import warm_average

NUM_ACTORS, SECONDS, RATE, HISTORY = 260, 10.0, 30, 7
Array = NDArray[np.float32]


def draw_motions(rng: np.random.Generator) -> tuple[Array, Array]:
    """Rotations (a, t, 24, 3, 3) with the root in world axes, and betas (a, 10)."""
    body = Body()
    motions, shapes = [], []
    for _ in range(NUM_ACTORS):
        actor = Actor(rng, body, lane=6.0, seconds=SECONDS, leaves=False, half_width=rng.uniform(1.0, 4.0))
        times = np.arange(0, SECONDS, 1 / RATE)
        motions.append(np.stack([actor.rotations_at(float(t)) for t in times]))
        shapes.append(actor.betas)
    return np.stack(motions), np.stack(shapes)


class Batches:
    """Random histories as a tracker would hand them over, and the pose that comes next."""

    def __init__(self, rng: np.random.Generator, motions: Array, betas: Array) -> None:
        self._rng, self._motions, self._betas = rng, motions, betas

    def draw(self, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Poses (b, 7, 229), slots (b, 7), repeated (b, 7), asked slots (b, 1) and the answer (b, 229)."""
        slots, asked = self._draw_slots(size)
        vectors = self._measure(np.concatenate([slots, asked], 1))
        repeated = np.zeros(slots.shape, bool)
        repeated[:, :-1] = slots[:, :-1] == slots[:, 1:]
        # An entry that shares its slot with a later one holds the same numbers.
        for column in range(HISTORY - 2, -1, -1):
            same = repeated[:, column]
            vectors[same, column] = vectors[same, column + 1]
        asked = np.minimum(asked, CONFIG.frame_length - 1)
        return (torch.from_numpy(vectors[:, :-1]), torch.from_numpy(slots), torch.from_numpy(repeated),
                torch.from_numpy(asked), torch.from_numpy(vectors[:, -1]))  # fmt: skip

    def _draw_slots(self, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Time slots of the history (b, 7), some with gaps, some young, and of the question (b, 1)."""
        rng = self._rng
        gaps = rng.geometric(rng.uniform(0.35, 0.95, (size, 1)), (size, HISTORY - 1))
        steps = np.where(rng.uniform(size=(size, 1)) < 0.4, gaps, 1)
        young = np.where(rng.uniform(size=(size, 1)) < 0.25, rng.integers(0, HISTORY, (size, 1)), 0)
        steps[np.arange(HISTORY - 1) < young] = 0
        slots = np.concatenate([np.zeros((size, 1), np.int64), np.cumsum(steps, 1)], 1)
        horizon = np.where(rng.uniform(size=(size, 1)) < 0.6, 1, rng.integers(1, 40, (size, 1)))
        return slots, slots[:, -1:] + horizon

    def _measure(self, frames: NDArray[np.int64]) -> Array:
        """Pose vectors (b, 8, 229) of random people at the frames, as a regressor would see them."""
        rng, (size, length) = self._rng, frames.shape
        actor = rng.integers(len(self._motions), size=(size, 1))
        frames = frames * rng.integers(1, 3, (size, 1))  # half of the videos have half the frame rate
        last = self._motions.shape[1] - 1
        start = (rng.uniform(size=(size, 1)) * np.maximum(last - frames[:, -1:], 0)).astype(np.int64)
        rotations = self._motions[actor, np.minimum(start + frames, last)].astype(np.float64)
        tilt = Rotation.from_euler(
            "xz", np.stack([rng.normal(0.1, 0.12, size), rng.normal(0, 0.04, size)], 1)
        )
        yaw = Rotation.from_euler("y", rng.uniform(0, 2 * np.pi, (size, 1)))
        view = tilt.as_matrix() @ UPSIDE @ yaw.as_matrix()
        rotations[:, :, 0] = view[:, None] @ rotations[:, :, 0]
        # An error that stays with the person and one of each frame.
        constant = rng.normal(0, rng.uniform(0.02, 0.14, (size, 1, 1, 1)), (size, 1, 24, 3))
        each = rng.normal(0, rng.uniform(0.01, 0.1, (size, 1, 1, 1)), (size, length, 24, 3))
        error = Rotation.from_rotvec((constant + each).reshape(-1, 3)).as_matrix()
        rotations = rotations @ error.reshape(rotations.shape)
        betas = (
            self._betas[actor] + rng.normal(0, 0.25, (size, 1, 10)) + rng.normal(0, 0.12, (size, length, 10))
        )
        camera = np.stack([rng.normal(0, 0.8, size), rng.normal(0.3, 0.3, size),
                           np.exp(rng.normal(3.6, 0.5, size)) / 200], 1)[:, None]  # fmt: skip
        camera = camera + rng.normal(0, 0.01, (size, length, 3)) * [2, 1, 0.2]
        return np.concatenate([rotations.reshape(size, length, -1), betas, camera], 2).astype(np.float32)


def main() -> None:
    """Train for so many minutes of processor time; the first fifteen actors are held out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    motions, betas = draw_motions(rng)
    print(f"{motions.shape[0]} motions of {motions.shape[1]} frames", flush=True)
    held_out = Batches(np.random.default_rng(4), motions[:15], betas[:15]).draw(1000)
    batches = Batches(rng, motions[15:], betas[15:])
    network = predictor()
    report(network, held_out, "as set")
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-4, weight_decay=0.01)
    average = torch.optim.swa_utils.AveragedModel(network, avg_fn=warm_average)
    started, step = time.process_time(), 0
    while (done := (time.process_time() - started) / (60 * options.minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 3e-4 * min((step + 1) / 200, 1) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        *inputs, answer = batches.draw(32)
        given = network.read_out(network.tokens(*inputs)[:, 0])
        loss = distance(given, answer).mean() + (given[:, 226:] - answer[:, 226:]).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(network)
        step += 1
        if step % 500 == 0:
            report(average.module, held_out, f"{time.process_time() - started:5.0f} s  step {step}")
    report(average.module, held_out, f"end, step {step}")
    torch.save(average.module.state_dict(), options.out)


def distance(given: Tensor, answer: Tensor) -> Tensor:
    """PHALP's pose distance: squared over rotations and shape."""
    return (given[:, :226] - answer[:, :226]).square().sum(1)


@torch.no_grad()
def report(network: PoseTransformer, held_out: tuple[Tensor, ...], when: str) -> None:
    """Print the pose distance beside that of repeating the last pose."""
    *inputs, answer = held_out
    given = network.read_out(network.tokens(*inputs)[:, 0])
    ahead = inputs[3][:, 0] - inputs[1][:, -1]
    for name, rows in (("next frame", ahead == 1), ("later", ahead > 5)):
        ours = distance(given, answer)[rows].mean().item()
        repeated = distance(inputs[0][:, -1], answer)[rows].mean().item()
        print(f"{when}  {name}: pose distance {ours:.3f}, repeating the last pose {repeated:.3f}", flush=True)


if __name__ == "__main__":
    main()
