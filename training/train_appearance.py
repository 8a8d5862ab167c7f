"""Train a narrow texture encoder of PHALP's architecture: one person's maps close, two people's far.

It learns from two kinds of people: drawn ones, each in other clothes, in accurate boxes and masks; and found
ones (make_textures), fewer, whose maps have the detector's mistakes, one of each pair mixed from several as a
track's is. Knows nothing about tracking but that mixing and the scale of the cost: r is
100 |a/1000 - b/1000|^2 of two maps cut to their common texels, a factor 1 + 4.05 r.

    python -m training.train_appearance build/textures build/appearance.pt --minutes 12
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.nn import functional

from model_cache.lite.load import read_uv_map
from model_cache.networks.appearance import AppearanceEncoder, mix_in_place
from model_cache.networks.crops import MEAN_RGB, STD_RGB
from model_cache.networks.hmr2 import crop_translation
from model_cache.networks.texture import TextureSampler
from training.body import Body
from training.crops import Crop, draw_crop, draw_places
from training.look import draw_look
from training.make_textures import COLOUR_STEP, to_bytes

WIDTHS = (8, 16, 32, 48, 48, 16)
NUM_LOOKS, VIEWS, HELD_OUT = 220, 6, 40
HELD_OUT_CLIPS = 4
SAME, DIFFERENT = 0.25, 8.0  # aims of r
ALPHA = 0.1  # of PHALP's mixing
LONGEST_MIX = 12  # maps


def draw_maps(rng: np.random.Generator) -> NDArray[np.int8]:
    """Texture maps (look, view, 4, 256, 256), as perception would take them from inaccurate bodies."""
    body = Body()
    sampler = TextureSampler(uv_map=read_uv_map(), faces=body.faces.astype(np.int64))
    places = draw_places(rng, 40)
    maps = np.empty((NUM_LOOKS, VIEWS, 4, 256, 256), np.int8)
    for row in maps:
        look = draw_look(rng)
        for index in range(VIEWS):
            crop = draw_crop(rng, body, places, look)
            uv = sampler.sample(*_inputs(rng, body, crop))[0].numpy()
            row[index] = to_bytes(uv)
    return maps


def _inputs(rng: np.random.Generator, body: Body, crop: Crop) -> tuple[Tensor, Tensor]:
    """The crop as the networks get it, and camera-space vertices with errors like the regressor's."""
    pixels = (crop.image_bgr[..., ::-1] - np.array(MEAN_RGB)) / np.array(STD_RGB)
    image = np.concatenate([pixels, crop.mask[..., None]], axis=2).astype(np.float32)
    error = Rotation.from_rotvec(rng.normal(0, rng.uniform(0.02, 0.12), (24, 3))).as_matrix()
    posed = body.pose((crop.rotations @ error).astype(np.float32), crop.betas)
    cam = crop.crop_cam * (1 + rng.normal(0, [0.03, 0, 0])) + rng.normal(0, [0, 0.03, 0.03])
    translation = crop_translation(torch.from_numpy(cam.astype(np.float32))[None])
    vertices = torch.from_numpy(posed.vertices)[None] + translation[:, None]
    return torch.from_numpy(image.transpose(2, 0, 1))[None], vertices


def distances(encoder: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """PHALP's r of each pair of maps (b, 4, 256, 256)."""
    common = (first[:, 3:] > 0.5) & (second[:, 3:] > 0.5)
    codes = encoder(torch.cat([first * common, second * common])) / 1000
    a, b = codes.chunk(2)
    return 100 * (a - b).square().sum(1)


def to_maps(stored: NDArray[np.int8]) -> Tensor:
    """Bytes back to colours and mask."""
    maps = torch.from_numpy(stored).float()
    maps[:, :3] *= COLOUR_STEP
    return maps


class FoundPeople:
    """The people of some clips and pairs of their maps."""

    def __init__(self, files: list[Path]) -> None:
        self._clips: list[list[tuple[NDArray[np.int8], NDArray[np.float32]]]] = []
        for file in files:
            with np.load(file) as data:
                maps, score, person = data["maps"], data["score"], data["person"]
            rows = [np.flatnonzero(person == who) for who in np.unique(person)]
            self._clips.append([(maps[r], score[r]) for r in rows if len(r) > LONGEST_MIX])

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A track's map and another map of everybody in one clip."""
        people = self._clips[rng.integers(len(self._clips))]
        pairs = [self._pair(rng, *person) for person in people]
        return torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])

    def _pair(
        self, rng: np.random.Generator, maps: NDArray[np.int8], score: NDArray[np.float32]
    ) -> tuple[Tensor, Tensor]:
        """Some maps in a row mixed as a track mixes them, and one from any time."""
        num = int(rng.integers(1, LONGEST_MIX + 1))
        start = int(rng.integers(len(maps) - num + 1))
        mixed = to_maps(maps[start : start + 1])[0]
        for row in range(start + 1, start + num):
            # Clips are kept at a fifth of their rate, so one map stands for several.
            mix_in_place(
                mixed, to_maps(maps[row : row + 1])[0], weight=1 - (1 - ALPHA * score[row] ** 2) ** 4
            )
        return mixed, to_maps(maps[rng.integers(len(maps))][None])[0]


def main() -> None:
    """Draw the maps, train for so many minutes of processor time, report on people never seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("textures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    started = time.process_time()
    maps = draw_maps(rng)
    files = sorted(options.textures.glob("[0-9]*[0-9].npz"))
    found, unseen = FoundPeople(files[HELD_OUT_CLIPS:]), FoundPeople(files[:HELD_OUT_CLIPS])
    print(f"{maps.shape[:2]} maps and {len(files)} clips, {time.process_time() - started:.0f} s", flush=True)
    encoder = AppearanceEncoder(WIDTHS)
    initialise(encoder)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-3, weight_decay=0.01)
    started, step = time.process_time(), 0
    while (done := (time.process_time() - started) / (60 * options.minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        looks = rng.choice(NUM_LOOKS - HELD_OUT, 6, replace=False) + HELD_OUT
        views = np.stack([rng.choice(VIEWS, 2, replace=False) for _ in looks])
        drawn = to_maps(maps[looks, views[:, 0]]), to_maps(maps[looks, views[:, 1]])
        loss = pull_and_push(encoder, *drawn) + 1.5 * pull_and_push(encoder, *found.draw(rng))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimiser.step()
        step += 1
        if step % 200 == 0:
            print(f"{time.process_time() - started:5.0f} s  step {step}  loss {loss.item():.3f}  "
                  f"{judged(encoder, maps[:HELD_OUT], unseen)}", flush=True)  # fmt: skip
            torch.save(encoder.state_dict(), options.out)
    print(f"end, step {step}  {judged(encoder, maps[:HELD_OUT], unseen)}")
    torch.save(encoder.state_dict(), options.out)


def initialise(encoder: AppearanceEncoder) -> None:
    """Random weights on the scale of the cost."""
    for layer in encoder.children():
        assert isinstance(layer, nn.Conv2d)
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for parameter in encoder.get_submodule("conv5_1").parameters():
            parameter.mul_(40)


def pull_and_push(encoder: nn.Module, first: Tensor, second: Tensor) -> Tensor:
    """Loss of maps (b, 4, 256, 256) of b people: each other's pair near, everybody else's far."""
    r_same, r_different = all_distances(encoder, first, second)
    return (
        functional.softplus(2 * (torch.log(r_same + 1e-3) - np.log(SAME))).mean()
        + functional.softplus(2 * (np.log(DIFFERENT) - torch.log(r_different + 1e-3))).mean()
        + 0.02 * torch.log(r_different / (2 * DIFFERENT) + 1e-3).relu().mean()
    )


def all_distances(encoder: nn.Module, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Of each person's own pair, and of the pairs with the next ones in the list."""
    shifts = range(1, min(len(first), 3))
    r = distances(
        encoder,
        torch.cat([first, *(first for _ in shifts)]),
        torch.cat([second, *(second.roll(shift, 0) for shift in shifts)]),
    )
    return r[: len(first)], r[len(first) :]


@torch.no_grad()
def judged(encoder: nn.Module, maps: NDArray[np.int8], unseen: FoundPeople) -> str:
    """Medians of r on held-out people and how often another person is nearer than oneself."""
    parts = []
    rng = np.random.default_rng(6)
    found = [all_distances(encoder, *unseen.draw(rng)) for _ in range(30)]
    drawn = [all_distances(encoder, to_maps(maps[:, 0]), to_maps(maps[:, 1]))]
    for kind, pairs in (("drawn", drawn), ("found", found)):
        same, others = torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])
        nearer = torch.cat([(b.view(-1, len(a)) < a).float().flatten() for a, b in pairs]).mean()
        parts.append(
            f"{kind}: r of one person {same.median():.2f}, nine tenths below {same.quantile(0.9):.2f}, "
            f"of two {others.median():.2f}, one tenth below {others.quantile(0.1):.2f}, "
            f"the other nearer {100 * nearer:.1f} %"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    main()
