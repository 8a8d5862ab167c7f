"""The vision transformer under HMR2: person crops in, one feature token per image patch out."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

CROP_SIZE = 256  # HMR2's square crops, pixels
_SIDE_MARGIN = 32  # columns cut off at each side: the ViT sees 256 x 192
_PATCH_SIZE = 16
_PATCH_PADDING = 2  # ViTPose's 4 + 2 * (ratio // 2 - 1) with ratio 1
PATCH_ROWS, PATCH_COLUMNS = 16, 12
NUM_PATCHES = PATCH_ROWS * PATCH_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class VitConfig:
    """Sizes of the backbone; the defaults are ViT-H."""

    dim: int = 1280
    depth: int = 32
    heads: int = 16
    mlp_dim: int = 5120


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value)  # (b, heads, n, c / heads)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class _Block(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.dim, eps=1e-6)
        self.attn = _Attention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=1e-6)
        fc1, fc2 = nn.Linear(config.dim, config.mlp_dim), nn.Linear(config.mlp_dim, config.dim)
        self.mlp = nn.Sequential(OrderedDict(fc1=fc1, gelu=nn.GELU(), fc2=fc2))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class VitBackbone(nn.Module):
    """HMR2's ViTPose-style backbone; runs in the precision of its parameters.

    Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; Xu et al., ViTPose, NeurIPS 2022.
    Tensor names are the checkpoint's, but for `position`: its slot for the class token, which the official
    code adds to every patch, is added in already.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(
            3, config.dim, kernel_size=_PATCH_SIZE, stride=_PATCH_SIZE, padding=_PATCH_PADDING
        )
        self.position = nn.Parameter(torch.zeros(1, NUM_PATCHES, config.dim))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.last_norm = nn.LayerNorm(config.dim, eps=1e-6)

    def forward(self, crops: Float[Tensor, "b 3 256 256"]) -> Float[Tensor, "b 192 c"]:
        """One token per patch, row by row, of RGB crops normalised by ImageNet's mean and deviation."""
        x = self.embed(crops)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.last_norm(x)
        return features

    def embed(self, crops: Float[Tensor, "b 3 256 256"]) -> Float[Tensor, "b 192 c"]:
        """Patch tokens with their positions, before the first block."""
        middle = crops[..., _SIDE_MARGIN : CROP_SIZE - _SIDE_MARGIN].to(self.position.dtype)
        patches: Tensor = self.patch_embed(middle)  # (b, c, 16, 12)
        return patches.flatten(2).transpose(1, 2) + self.position
