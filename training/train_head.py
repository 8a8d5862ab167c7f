"""Train the lite HMR2: BlazePose's token mixer and HMR2's decoder head, on features kept by make_features.

The network classes are the product's own.

    python -m training.train_head build/features build/head --minutes 40
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model_cache.lite.backbone import BackboneConfig, TokenMixer
from model_cache.networks.decoder import BodyParameters, HeadConfig, SmplHead
from training.body import Body
from training.skeleton import PARENTS

# SMPL's left-right pairs; mirrored truth swaps them.
SWAPPED = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
LSP_14 = [8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20, 12, 15]  # ankles to head, out of SMPL's 24
FOCAL, CROP = 5000.0, 256.0
# Against learning the crops by heart: 112,000 of them are few for 5 million weights.
TOKEN_DROPOUT, PATCH_NOISE, LOST_PATCHES, LOST_LANDMARKS, WEIGHT_DECAY = 0.15, 0.15, 0.15, 0.1, 0.1
HELD_OUT = {"varied": (0, 1), "everyday": (39,), "found": (58, 59)}  # shards nothing is learned from
BACKBONE = BackboneConfig()
HEAD = HeadConfig(dim=256, depth=3, heads=4, dim_head=32, mlp_dim=512, context_dim=BACKBONE.dim)


class Skeleton(nn.Module):
    """The 24 joints and 21 vertex joints of the free body, differentiable, without the other vertices."""

    def __init__(self) -> None:
        super().__init__()
        body = Body()
        ids = body.vertex_joints
        directions = body.directions.reshape(-1, 3, 10)
        for name, value in {
            "rest": body.regressor @ body.template,
            "rest_directions": np.einsum("jv,vdb->jdb", body.regressor, directions),
            "skin": body.template[ids],
            "skin_directions": directions[ids],
            "weights": body.weights[ids],
        }.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value, np.float32)))

    def forward(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """Joints (b, 45, 3) of rotations (b, 24, 3, 3) and betas (b, 10)."""
        rest = self.rest + torch.einsum("jdk,bk->bjd", self.rest_directions, betas)
        skin = self.skin + torch.einsum("jdk,bk->bjd", self.skin_directions, betas)
        world, joints = [rotations[:, 0]], [rest[:, 0]]
        for joint in range(1, 24):
            parent = int(PARENTS[joint])
            bone = (rest[:, joint] - rest[:, parent])[..., None]
            joints.append(joints[parent] + (world[parent] @ bone)[..., 0])
            world.append(world[parent] @ rotations[:, joint])
        turns, places = torch.stack(world, 1), torch.stack(joints, 1)
        offsets = places - (turns @ rest[..., None])[..., 0]
        blended = torch.einsum("vj,bjxy->bvxy", self.weights, turns)
        skinned = (blended @ skin[..., None])[..., 0] + torch.einsum("vj,bjx->bvx", self.weights, offsets)
        return torch.cat([places, skinned], 1)


def mirror(rotations: Tensor, crop_cam: Tensor) -> tuple[Tensor, Tensor]:
    """The truth of the mirrored crop; shape directions are taken as symmetric."""
    flip = torch.tensor([-1.0, 1.0, 1.0])
    turned = rotations[:, SWAPPED] * flip[:, None] * flip
    return turned, crop_cam * torch.tensor([1.0, -1.0, 1.0])


def project(joints: Tensor, crop_cam: Tensor) -> Tensor:
    """HMR2's crop camera: (b, j, 2), borders at +-0.5."""
    depth = 2 * FOCAL / (CROP * crop_cam[:, :1].clamp(min=0.05))
    placed = joints + torch.cat([crop_cam[:, 1:], depth], 1)[:, None]
    return FOCAL / CROP * placed[..., :2] / placed[..., 2:]


class Data:
    """All shards in memory, float16; sample 2 i + 1 is the mirror image of sample 2 i."""

    def __init__(self, files: list[Path]) -> None:
        shards = [np.load(file) for file in files]
        self.patches = np.concatenate([s["patches"] for s in shards])
        self.landmarks = np.concatenate([s["landmarks"] for s in shards])
        self.truth = {
            name: torch.from_numpy(np.concatenate([s[name] for s in shards]))
            for name in ("rotations", "betas", "crop_cam")
        }

    def __len__(self) -> int:
        return 2 * len(self.patches)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Patches, landmarks and truth of some samples."""
        crop, mirrored = indices // 2, indices % 2
        truth = {name: values[crop] for name, values in self.truth.items()}
        turned, cam = mirror(truth["rotations"], truth["crop_cam"])
        which = torch.from_numpy(mirrored == 1)
        truth["rotations"] = torch.where(which[:, None, None, None], turned, truth["rotations"])
        truth["crop_cam"] = torch.where(which[:, None], cam, truth["crop_cam"])
        patches = torch.from_numpy(self.patches[crop, mirrored]).float()
        landmarks = torch.from_numpy(self.landmarks[crop, mirrored]).float()
        return patches, landmarks, truth


class Network(nn.Module):
    """Mixer and head under the names they are stored with."""

    def __init__(self, backbone: BackboneConfig, head: HeadConfig) -> None:
        super().__init__()
        self.mixer = TokenMixer(backbone)
        self.head = SmplHead(head)

    def forward(self, patches: Tensor, landmarks: Tensor) -> BodyParameters:
        """Body and camera. While training, the large products are in bfloat16: twice as fast on a CPU."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.training):
            tokens = functional.dropout(self.mixer(patches, landmarks), TOKEN_DROPOUT, self.training)
            query = self.head.decode(tokens)
        output: BodyParameters = self.head.read_out(query.float())
        return output


def warm_average(averaged: Tensor, current: Tensor, count: Tensor) -> Tensor:
    """Exponential average that forgets its first steps quickly."""
    decay = min(0.998, (1 + int(count)) / (20 + int(count)))
    return averaged + (current - averaged) * (1 - decay)


def losses(output: BodyParameters, truth: dict[str, Tensor], skeleton: Skeleton) -> dict[str, Tensor]:
    """The weighted terms: rotations, shape, camera, root-relative joints, key points in the crop."""
    rotations = torch.cat([output.global_orient, output.body_pose], 1)
    with torch.no_grad():
        wanted = skeleton(truth["rotations"], truth["betas"])
        wanted_2d = project(wanted, truth["crop_cam"])
    joints = skeleton(rotations, output.betas)
    seen = project(joints, output.crop_cam)
    error = (rotations - truth["rotations"]).square().mean((2, 3))
    return {
        "root": 2.0 * error[:, 0].mean(),
        "pose": 2.0 * error[:, 1:].mean(),
        "betas": 0.02 * (output.betas - truth["betas"]).square().mean(),
        "cam": 1.0 * functional.smooth_l1_loss(output.crop_cam, truth["crop_cam"], beta=0.1),
        "joints": 6.0 * ((joints - joints[:, :1]) - (wanted - wanted[:, :1])).abs().mean(),
        "keypoints": 6.0 * (seen - wanted_2d).abs().mean(),
    }


@torch.no_grad()
def evaluate(network: Network, data: Data, skeleton: Skeleton) -> dict[str, float]:
    """MPJPE and PA-MPJPE over LSP's 14 joints in mm, key point error in crop sides."""
    network.eval()
    mpjpe, pa, flat = [], [], []
    for start in range(0, len(data), 500):
        patches, landmarks, truth = data.batch(np.arange(start, min(start + 500, len(data))))
        output = network(patches, landmarks)
        found = skeleton(torch.cat([output.global_orient, output.body_pose], 1), output.betas)
        wanted = skeleton(truth["rotations"], truth["betas"])
        flat.append((project(found, output.crop_cam) - project(wanted, truth["crop_cam"])).norm(dim=-1))
        found, wanted = (j[:, LSP_14] - j[:, :1] for j in (found, wanted))
        mpjpe.append((found - wanted).norm(dim=-1))
        pa.append((procrustes(found, wanted) - wanted).norm(dim=-1))
    network.train()
    return {
        "mpjpe": 1000 * torch.cat(mpjpe).mean().item(),
        "pa": 1000 * torch.cat(pa).mean().item(),
        "px": torch.cat(flat).median().item(),
    }


def procrustes(points: Tensor, onto: Tensor) -> Tensor:
    """`points` after the similarity that brings each set (b, j, 3) nearest to `onto`."""
    mean, target = points.mean(1, keepdim=True), onto.mean(1, keepdim=True)
    a, b = points - mean, onto - target
    u, s, vt = torch.linalg.svd(a.transpose(1, 2) @ b)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.sign(torch.linalg.det(u @ vt))
    scale = (s * sign).sum(1) / a.square().sum((1, 2))
    return scale[:, None, None] * a @ (u * sign[:, None]) @ vt + target


def main() -> None:
    """Train for so many minutes of processor time and keep the averaged weights."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    shards = {int(file.stem): file for file in sorted(options.features.glob("[0-9]*[0-9].npz"))}
    held_out = {kind: Data([shards.pop(number) for number in numbers]) for kind, numbers in HELD_OUT.items()}
    data = Data(list(shards.values()))
    network, skeleton = Network(BACKBONE, HEAD), Skeleton()
    initialise(network, data)
    average = torch.optim.swa_utils.AveragedModel(network, avg_fn=warm_average)
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY)
    print(f"{len(data)} samples, {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters")
    print(asdict(BACKBONE), asdict(HEAD), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    started, step, last_report = time.process_time(), 0, 0.0
    done = 0.0
    while done < 1:
        for indices in np.array_split(rng.permutation(len(data)), len(data) // options.batch):
            done = (time.process_time() - started) / (60 * options.minutes)
            if done >= 1:
                break
            warm = min(step / 300, 1)
            for group in optimiser.param_groups:
                group["lr"] = options.rate * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
            patches, landmarks, truth = data.batch(np.sort(indices))
            patches = patches * (1 + PATCH_NOISE * torch.randn_like(patches))
            patches = patches * (torch.rand(len(patches), 64, 1) > LOST_PATCHES)
            landmarks = landmarks * (torch.rand(len(landmarks), 33, 1) > LOST_LANDMARKS)
            landmarks = landmarks + 0.004 * torch.randn_like(landmarks)
            terms = losses(network(patches, landmarks), truth, skeleton)
            total = torch.stack(list(terms.values())).sum()
            optimiser.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            average.update_parameters(network)
            step += 1
            if time.process_time() - started - last_report > 120 or step == 300:
                last_report = time.process_time() - started
                parts = ", ".join(f"{name} {term.item():.3f}" for name, term in terms.items())
                print(
                    f"{last_report:6.0f} s  step {step:6d}  epoch {step * options.batch / len(data):5.1f}  "
                    f"loss {total.item():.3f} ({parts})  {judged(average.module, held_out, skeleton)}",
                    flush=True,
                )
                torch.save(average.module.state_dict(), options.out / "last.pt")
    torch.save(average.module.state_dict(), options.out / "last.pt")
    print(f"end, {step} steps  {judged(average.module, held_out, skeleton)}")


def judged(network: Network, held_out: dict[str, Data], skeleton: Skeleton) -> str:
    """Scores of each kind of crop that nothing was learned from."""
    kinds = {kind: evaluate(network, data, skeleton) for kind, data in held_out.items()}
    return "; ".join(
        f"{kind} MPJPE {scores['mpjpe']:.1f} PA {scores['pa']:.1f} mm 2D {scores['px']:.4f}"
        for kind, scores in kinds.items()
    )


def initialise(network: Network, data: Data) -> None:
    """Means from the data, small read-outs, informative positions."""
    rotations = data.truth["rotations"].mean(0)
    u, _, vt = torch.linalg.svd(rotations)
    mean = u @ vt
    mean[:, :, 2] = torch.linalg.cross(mean[:, :, 0], mean[:, :, 1])
    mean[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # upright and facing the camera
    network.head.mean_pose.copy_(mean[:, :, :2].transpose(1, 2).reshape(1, -1))
    network.head.mean_betas.zero_()
    network.head.mean_cam.copy_(data.truth["crop_cam"].mean(0)[None])
    for layer in (network.head.to_pose, network.head.to_betas, network.head.to_cam):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    some = slice(0, 4000)
    for name, values in (("patch", data.patches[some, 0]), ("landmark", data.landmarks[some, 0])):
        axes = (0, 1) if name == "patch" else 0
        sample = torch.from_numpy(values).float()
        getattr(network.mixer, f"{name}_mean").copy_(sample.mean(axes))
        getattr(network.mixer, f"{name}_scale").copy_(1 / (sample.std(axes) + 0.02))
    nn.init.normal_(network.head.query, std=0.5)
    nn.init.normal_(network.mixer.patch_position, std=0.5)
    nn.init.normal_(network.mixer.landmark_position, std=0.5)


if __name__ == "__main__":
    main()
