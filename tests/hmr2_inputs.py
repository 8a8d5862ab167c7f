"""Golden crops as HMR2 takes them."""

import numpy as np
import torch

MEAN_RGB = np.array([123.675, 116.280, 103.530])
STD_RGB = np.array([58.395, 57.120, 57.375])


def normalised(crops_bgr: np.ndarray) -> torch.Tensor:
    """(n, 256, 256, 3) uint8 BGR to (n, 3, 256, 256) float32 RGB, in float64 on the way as PHALP does."""
    rgb = (crops_bgr[..., ::-1] - MEAN_RGB) / STD_RGB
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(0, 3, 1, 2), dtype=np.float32))
