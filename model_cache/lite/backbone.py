"""HMR2's bundled backbone: a frozen BlazePose and a small trained mixer turn a person crop into tokens."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy import ndarray
from torch import Tensor, nn

from model_cache.lite.blazepose import INPUT_SIZE, NUM_LANDMARKS, BlazePose
from model_cache.networks.crops import MEAN_RGB, STD_RGB

# HMR2's crop is tight, and BlazePose was trained with room around the body. Best of 0.7, 0.8, 0.9 and 1 by
# landmark error on rendered crops.
SHRINK = 0.8
GRID = 8  # BlazePose's feature map is 8 x 8
PATCH_WIDTH = 288 + 4  # features and the mask's share in each quarter of the cell
LANDMARK_WIDTH = 8  # x, y, z in crop units, visibility, presence, world x, y, z in metres


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneConfig:
    """Sizes of the mixer."""

    dim: int = 128  # of the tokens, the head's `context_dim`
    squeezed: int = 20  # numbers that each cell gives to the summary
    hidden: int = 768  # width of the summary's hidden layers
    summaries: int = 4  # tokens that see the whole crop at once


def measure(
    network: BlazePose, crop_rgb: Float32[ndarray, "256 256 3"]
) -> tuple[Float32[ndarray, "64 292"], Float32[ndarray, "33 8"]]:
    """The patches and landmarks that BlazePose sees in one HMR2 crop, RGB 0 to 1.

    Landmarks are in the crop's own coordinates, with its borders at -0.5 and 0.5.
    """
    edge = INPUT_SIZE * (1 - SHRINK) / 2
    shrink = np.array([[SHRINK, 0, edge], [0, SHRINK, edge]])
    body = network.run(cv2.warpAffine(crop_rgb, shrink, (INPUT_SIZE, INPUT_SIZE), flags=cv2.INTER_LINEAR))
    cells = body.features.reshape(-1, GRID * GRID).T
    quarter = INPUT_SIZE // (2 * GRID)
    share = _sigmoid(body.mask_logits).reshape(GRID, 2, quarter, GRID, 2, quarter).mean((2, 5))
    share = share.transpose(0, 2, 1, 3).reshape(GRID * GRID, 4)  # (row, half, column, half) before
    places = (body.landmarks[:, :3] / INPUT_SIZE - np.array([0.5, 0.5, 0], np.float32)) / SHRINK
    landmarks = np.concatenate([places, _sigmoid(body.landmarks[:, 3:]), body.world_landmarks], axis=1)
    return np.concatenate([cells, share], axis=1).astype(np.float32), landmarks


def _sigmoid(logits: Float32[ndarray, "..."]) -> Float32[ndarray, "..."]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))


class TokenMixer(nn.Module):
    """The trained part: patches and landmarks to tokens of one width.

    Four neighbouring cells make one token, each landmark one, and a few tokens see the whole crop at once;
    attention over single cells would need many more examples to learn that.
    """

    patch_mean: Tensor
    patch_scale: Tensor
    landmark_mean: Tensor
    landmark_scale: Tensor

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self._summaries = config.summaries
        self.register_buffer("patch_mean", torch.zeros(PATCH_WIDTH))
        self.register_buffer("patch_scale", torch.ones(PATCH_WIDTH))
        self.register_buffer("landmark_mean", torch.zeros(NUM_LANDMARKS, LANDMARK_WIDTH))
        self.register_buffer("landmark_scale", torch.ones(NUM_LANDMARKS, LANDMARK_WIDTH))
        self.patch = nn.Linear(4 * PATCH_WIDTH, config.dim)
        self.patch_position = nn.Parameter(torch.zeros(GRID * GRID // 4, config.dim))
        self.landmark = nn.Linear(LANDMARK_WIDTH, config.dim)
        self.landmark_position = nn.Parameter(torch.zeros(NUM_LANDMARKS, config.dim))
        self.squeeze = nn.Linear(PATCH_WIDTH, config.squeezed)
        width = GRID * GRID * config.squeezed + NUM_LANDMARKS * LANDMARK_WIDTH
        self.summary = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.summaries * config.dim),
        )

    def forward(
        self, patches: Float[Tensor, "b 64 292"], landmarks: Float[Tensor, "b 33 8"]
    ) -> Float[Tensor, "b n c"]:
        """Tokens of the cells, of the landmarks and of the whole crop, in this order."""
        patches = (patches - self.patch_mean) * self.patch_scale
        landmarks = (landmarks - self.landmark_mean) * self.landmark_scale
        half = GRID // 2
        blocks = patches.view(-1, half, 2, half, 2, PATCH_WIDTH).transpose(2, 3)
        blocks = blocks.reshape(-1, half**2, 4 * PATCH_WIDTH)
        whole = torch.cat([self.squeeze(patches).flatten(1), landmarks.flatten(1)], dim=1)
        return torch.cat(
            [
                self.patch(blocks) + self.patch_position,
                self.landmark(landmarks) + self.landmark_position,
                self.summary(whole).unflatten(1, (self._summaries, -1)),
            ],
            dim=1,
        )


class BlazePoseBackbone(nn.Module):
    """Normalised HMR2 crops to tokens. BlazePose runs on the CPU crop by crop, the mixer on any device."""

    def __init__(self, config: BackboneConfig, num_threads: int) -> None:
        super().__init__()
        self.mixer = TokenMixer(config)
        self._network = BlazePose(num_threads)

    def forward(self, crops: Float[Tensor, "b 3 256 256"]) -> Float[Tensor, "b n c"]:
        """Tokens of each crop."""
        pixels = crops.float().cpu().permute(0, 2, 3, 1) * torch.tensor(STD_RGB) + torch.tensor(MEAN_RGB)
        images = (pixels / 255).clamp(0, 1).contiguous().numpy()
        measured = zip(*(measure(self._network, image) for image in images), strict=True)
        device = self.mixer.patch_position.device
        tokens: Tensor = self.mixer(*(torch.from_numpy(np.stack(part)).to(device) for part in measured))
        return tokens
