"""HMR2's SMPL head: one query reads a crop's feature tokens and gives body and camera."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from model_cache.networks.smpl import NUM_BETAS, NUM_JOINTS, rotation_from_6d


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """Sizes of the head; the defaults are HMR2's. `context_dim` is the width of the feature tokens."""

    dim: int = 1024
    depth: int = 6
    heads: int = 8
    dim_head: int = 64
    mlp_dim: int = 1024
    context_dim: int = 1280


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyParameters:
    """The people of a batch of crops, as SMPL parameters."""

    global_orient: Float[Tensor, "b 1 3 3"]  # root rotation, camera frame (x right, y down, z forward)
    body_pose: Float[Tensor, "b 23 3 3"]  # joint rotations relative to the parent joint
    betas: Float[Tensor, "b 10"]  # shape coefficients
    crop_cam: Float[Tensor, "b 3"]  # weak camera of the crop (s, tx, ty), crop units


class _CrossAttention(nn.Module):
    """The query reads the tokens. The tokens are not normalised."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self.heads = config.heads
        self.to_query = nn.Linear(config.dim, inner, bias=False)
        self.to_key_value = nn.Linear(config.context_dim, 2 * inner, bias=False)
        self.out = nn.Linear(inner, config.dim)

    def forward(self, x: Float[Tensor, "b 1 d"], tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b 1 d"]:
        query = self.to_query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.to_key_value(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class _Layer(nn.Module):
    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        # A single query attends only to itself, with weight one: its self-attention is the value path.
        self.self_norm = nn.LayerNorm(config.dim)
        self.self_value = nn.Linear(config.dim, inner, bias=False)
        self.self_out = nn.Linear(inner, config.dim)
        self.cross_norm = nn.LayerNorm(config.dim)
        self.cross = _CrossAttention(config)
        self.mlp_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.dim)

    def forward(self, x: Float[Tensor, "b 1 d"], tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b 1 d"]:
        x = x + self.self_out(self.self_value(self.self_norm(x)))
        x = x + self.cross(self.cross_norm(x), tokens)
        out: Tensor = x + self.fc2(nn.functional.gelu(self.fc1(self.mlp_norm(x))))
        return out


class SmplHead(nn.Module):
    """Transformer decoder with one query and a linear read-out, added to mean parameters. Float32.

    Goel et al., Humans in 4D, ICCV 2023. `query` is the official token embedding of zero (its bias) plus
    the position embedding.
    """

    mean_pose: Tensor
    mean_betas: Tensor
    mean_cam: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        self.to_pose = nn.Linear(config.dim, 6 * NUM_JOINTS)
        self.to_betas = nn.Linear(config.dim, NUM_BETAS)
        self.to_cam = nn.Linear(config.dim, 3)
        self.register_buffer("mean_pose", torch.zeros(1, 6 * NUM_JOINTS))
        self.register_buffer("mean_betas", torch.zeros(1, NUM_BETAS))
        self.register_buffer("mean_cam", torch.zeros(1, 3))

    def forward(self, tokens: Float[Tensor, "b n c"]) -> BodyParameters:
        """Body and crop camera out of a crop's feature tokens, any number of them."""
        return self.read_out(self.decode(tokens))

    def decode(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b 1 d"]:
        """The query after all layers, not normalised."""
        x = self.query.expand(len(tokens), -1, -1)
        for layer in self.layers:
            x = layer(x, tokens)
        return x

    def read_out(self, query: Float[Tensor, "b 1 d"]) -> BodyParameters:
        """Parameters out of the decoded query."""
        x = query[:, 0]
        rotations = rotation_from_6d((self.to_pose(x) + self.mean_pose).unflatten(-1, (NUM_JOINTS, 6)))
        return BodyParameters(
            global_orient=rotations[:, :1],
            body_pose=rotations[:, 1:],
            betas=self.to_betas(x) + self.mean_betas,
            crop_cam=self.to_cam(x) + self.mean_cam,
        )
