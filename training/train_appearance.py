"""Train a narrow texture encoder of PHALP's architecture: one person's maps close, two people's far.

Knows nothing about tracking but the scale of its cost: r = 100 |a/1000 - b/1000|^2 of two maps cut to their
common texels, a factor 1 + 4.05 r, and a threshold of 100. Aim: r below 0.5 for one person, above 4 for two.

    python -m training.train_appearance build/appearance.pt --minutes 8
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
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.crops import MEAN_RGB, STD_RGB
from model_cache.networks.hmr2 import crop_translation
from model_cache.networks.texture import TextureSampler
from training.body import Body
from training.crops import Crop, draw_crop, draw_places
from training.look import draw_look

WIDTHS = (8, 16, 32, 48, 48, 16)
NUM_LOOKS, VIEWS, HELD_OUT = 220, 6, 40
SAME, DIFFERENT = 0.5, 4.0  # aims of r
COLOUR_STEP = 1.2 / 127  # colours are stored as bytes


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
            row[index, :3] = np.clip(np.round(uv[:3] / COLOUR_STEP), -127, 127)
            row[index, 3] = uv[3]
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


def main() -> None:
    """Draw the maps, train for so many minutes of processor time, report on people never seen."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    rng = np.random.default_rng(5)
    started = time.process_time()
    maps = draw_maps(rng)
    print(f"{maps.shape[:2]} maps in {time.process_time() - started:.0f} s", flush=True)
    encoder = AppearanceEncoder(WIDTHS)
    for layer in encoder.children():
        assert isinstance(layer, nn.Conv2d)
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():  # start on the scale of the cost
        last = encoder.get_submodule("conv5_1")
        for parameter in last.parameters():
            parameter.mul_(40)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-3, weight_decay=0.01)
    started, step = time.process_time(), 0
    while (done := (time.process_time() - started) / (60 * options.minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        looks = rng.choice(NUM_LOOKS - HELD_OUT, 8, replace=False) + HELD_OUT
        views = np.stack([rng.choice(VIEWS, 2, replace=False) for _ in looks])
        first, second = to_maps(maps[looks, views[:, 0]]), to_maps(maps[looks, views[:, 1]])
        r_same = distances(encoder, first, second)
        r_different = distances(encoder, first, second.roll(1, 0))
        loss = (
            functional.softplus(2 * (torch.log(r_same + 1e-3) - np.log(SAME))).mean()
            + functional.softplus(2 * (np.log(DIFFERENT) - torch.log(r_different + 1e-3))).mean()
            + 0.02 * torch.log(r_different / 8 + 1e-3).relu().mean()
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
        optimiser.step()
        step += 1
        if step % 100 == 0:
            report(
                encoder,
                maps[:HELD_OUT],
                f"{time.process_time() - started:5.0f} s  step {step}  loss {loss.item():.3f}",
            )
            torch.save(encoder.state_dict(), options.out)
    report(encoder, maps[:HELD_OUT], f"end, step {step}")
    torch.save(encoder.state_dict(), options.out)


@torch.no_grad()
def report(encoder: nn.Module, maps: NDArray[np.int8], when: str) -> None:
    """Print medians of r on held-out people and how often another person is nearer than oneself."""
    first, second = to_maps(maps[:, 0]), to_maps(maps[:, 1])
    same = distances(encoder, first, second)
    others = torch.stack([distances(encoder, first, second.roll(shift, 0)) for shift in (1, 2, 3)])
    wrong = (others < same).float().mean()
    print(f"{when}  held out: r of one person {same.median():.2f}, of two {others.median():.2f}, "
          f"the other is nearer in {100 * wrong:.1f} % of the pairs", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
