"""SMPL and HMR2's ViT against the simplest correct version: `python -m benchmarks.body`.

SMPL poses five people on one core. The ViT runs with random weights: on the CPU a few of ViT-H's blocks, on
a GPU (`--device cuda`) all of it, with crops per second, share of the measured matrix rate, peak memory.
"""

import argparse
from functools import partial
from importlib.resources import as_file, files

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softmax

from benchmarks.timing import best_ms, print_head, print_row
from model_cache.networks import vit
from model_cache.networks.device import use_exact_float32
from model_cache.networks.smpl import BodyData, PosedBody, Smpl, rotation_from_6d
from model_cache.networks.vit import CROP_SIZE, NUM_PATCHES, VitBackbone, VitConfig
from model_cache.store.body_files import read_body

NUM_PEOPLE = 5
SMPL_LIMIT_MS = 10.0
CPU_BLOCKS = 4


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, help="crops per batch; default 2 on the CPU, 32 on a GPU")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    use_exact_float32()
    with torch.inference_mode():
        compare_bodies(arguments.device)
        compare_backbones(arguments.device, arguments.batch or (2 if arguments.device == "cpu" else 32))


def compare_bodies(device: str) -> None:
    """Ours and the textbook's SMPL, with pose blend shapes and without."""
    print_head(f"SMPL, {NUM_PEOPLE} people, ms on {device}")
    rng = np.random.default_rng(0)
    six = torch.from_numpy(rng.normal(size=(NUM_PEOPLE, 24, 6)).astype(np.float32))
    rotations = rotation_from_6d(six).to(device)
    betas = torch.from_numpy(rng.normal(size=(NUM_PEOPLE, 10)).astype(np.float32)).to(device)
    for name, data in bodies(rng).items():
        smpl = Smpl(data).to(device)
        textbook = Textbook(data, device)
        ours: PosedBody = smpl(rotations[:, :1], rotations[:, 1:], betas)
        error = (ours.vertices - textbook.pose(rotations, betas)[0]).abs().max().item()
        if error > 1e-5:
            raise AssertionError(f"the two bodies differ by {error} m")
        ours_ms = best_ms(partial(smpl, rotations[:, :1], rotations[:, 1:], betas), device=device)
        print_row(name, best_ms(partial(textbook.pose, rotations, betas), device=device), ours_ms)
        if device == "cpu":
            print(f"  limit {SMPL_LIMIT_MS:.0f} ms: {'met' if ours_ms <= SMPL_LIMIT_MS else 'MISSED'}")


def bodies(rng: np.random.Generator) -> dict[str, BodyData]:
    """The free body, and the same with pose blend shapes, as SMPL has them."""
    with as_file(files("model_cache.lite") / "body.npz") as path:
        free = read_body(path)
    posedirs = rng.normal(scale=1e-4, size=(len(free.v_template), 3, 207)).astype(np.float32)
    fields = {name: getattr(free, name) for name in BodyData.__dataclass_fields__}
    return {
        "with pose blend shapes": BodyData(**fields | {"posedirs": posedirs}),
        "without (free body)": free,
    }


class Textbook:
    """SMPL as the paper's formulas read, one einsum each, in homogeneous coordinates."""

    def __init__(self, data: BodyData, device: str) -> None:
        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.template, self.shapedirs = tensor(data.v_template), tensor(data.shapedirs)
        posedirs = np.zeros((len(data.v_template), 3, 207), np.float32)
        self.posedirs = tensor(posedirs if data.posedirs is None else data.posedirs)
        self.regressor, self.weights = tensor(data.joint_regressor), tensor(data.lbs_weights)
        self.extra = tensor(data.joint_regressor_extra)
        self.parents = data.parents

    def pose(self, rotations: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Vertices (b, v, 3) and extra joints (b, 19, 3) of (b, 24, 3, 3) rotations and (b, 10) shapes."""
        shaped = self.template + torch.einsum("vkl,bl->bvk", self.shapedirs, betas)
        joints = torch.einsum("jv,bvk->bjk", self.regressor, shaped)
        feature = (rotations[:, 1:] - torch.eye(3, device=rotations.device)).flatten(1)
        posed = shaped + torch.einsum("vkp,bp->bvk", self.posedirs, feature)
        local = torch.zeros(*rotations.shape[:2], 4, 4, device=rotations.device)
        local[..., :3, :3] = rotations
        local[..., 3, 3] = 1
        local[:, 0, :3, 3] = joints[:, 0]
        local[:, 1:, :3, 3] = joints[:, 1:] - joints[:, self.parents[1:]]
        world = [local[:, 0]]
        for joint in range(1, 24):
            world.append(torch.einsum("bij,bjk->bik", world[self.parents[joint]], local[:, joint]))
        transforms = torch.stack(world, 1)
        rest = torch.cat((joints, torch.zeros_like(joints[..., :1])), -1)
        transforms[..., 3] -= torch.einsum("bjkl,bjl->bjk", transforms, rest)
        blended = torch.einsum("vj,bjkl->bvkl", self.weights, transforms)
        homogeneous = torch.cat((posed, torch.ones_like(posed[..., :1])), -1)
        vertices = torch.einsum("bvkl,bvl->bvk", blended, homogeneous)[..., :3]
        return vertices, torch.einsum("jv,bvk->bjk", self.extra, vertices)


def compare_backbones(device: str, batch: int) -> None:
    """Attention written out against SDPA, and float32 against bf16."""
    config = VitConfig(depth=CPU_BLOCKS) if device == "cpu" else VitConfig()
    torch.manual_seed(0)
    backbone = VitBackbone(config).eval().to(device)
    crops = torch.randn(batch, 3, CROP_SIZE, CROP_SIZE, device=device)
    print_head(f"{config.depth} blocks of ViT-H, {batch} crops, ms on {device}")
    plain = vit.scaled_dot_product_attention
    for precision in (torch.float32, torch.bfloat16):
        backbone.to(precision)
        vit.scaled_dot_product_attention = naive_attention
        naive_ms = best_ms(lambda: backbone(crops), repeats=3, device=device)
        vit.scaled_dot_product_attention = plain
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        ours_ms = best_ms(lambda: backbone(crops), repeats=3, device=device)
        print_row(f"SDPA against written out, {str(precision)[6:]}", naive_ms, ours_ms)
        if precision == torch.float32:
            exact_ms = ours_ms
    print_row("bf16 against float32", exact_ms, ours_ms)
    rate = flops(config) * batch / ours_ms * 1e3
    peak = matrix_rate(device)
    print(f"  bf16: {batch / ours_ms * 1e3:.1f} crops/s, {rate / 1e12:.2f} TFLOP/s, "
          f"{rate / peak:.0%} of this device's {peak / 1e12:.2f} in a large product")  # fmt: skip
    if device != "cpu":
        print(f"  peak memory {torch.cuda.max_memory_reserved() / 2**30:.2f} GiB")


def naive_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention as its formula reads."""
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return softmax(logits, dim=-1) @ value


def flops(config: VitConfig) -> float:
    """Floating-point operations of one crop (a multiply-add counts two)."""
    per_token = 4 * config.dim**2 + 2 * config.dim * config.mlp_dim + 2 * NUM_PATCHES * config.dim
    return 2.0 * NUM_PATCHES * (config.depth * per_token + 3 * 16 * 16 * config.dim)


def matrix_rate(device: str) -> float:
    """Measured FLOP/s of a large bf16 matrix product."""
    size = 2048 if device == "cpu" else 8192
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * size**3 / best_ms(lambda: left @ right, repeats=3, device=device) * 1e3


if __name__ == "__main__":
    main()
