"""Golden crops as HMR2 takes them, and its joints where they fall in them."""

import numpy as np
import torch

from model_cache.networks.hmr2 import FOCAL_LENGTH, BodyEstimate
from model_cache.networks.vit import CROP_SIZE

MEAN_RGB = np.array([123.675, 116.280, 103.530])
STD_RGB = np.array([58.395, 57.120, 57.375])


def normalised(crops_bgr: np.ndarray) -> torch.Tensor:
    """(n, 256, 256, 3) uint8 BGR to (n, 3, 256, 256) float32 RGB, in float64 on the way as PHALP does."""
    rgb = (crops_bgr[..., ::-1] - MEAN_RGB) / STD_RGB
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(0, 3, 1, 2), dtype=np.float32))


def project_to_crop(points: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Where points (b, n, 3) fall in the crop; its borders are at -0.5 and 0.5, x right, y down."""
    placed = points + translation[:, None]
    return FOCAL_LENGTH / CROP_SIZE * (placed[..., :2] / placed[..., 2:])


def keypoints_2d(people: BodyEstimate) -> torch.Tensor:
    """The 44 joints in the crop."""
    return project_to_crop(people.joints_3d, people.crop_cam_t)
