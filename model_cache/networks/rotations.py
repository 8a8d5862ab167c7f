"""Rotation matrices out of network outputs. Knows nothing of bodies or cameras."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


def rotation_from_6d(six: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3 3"]:
    """The rotation whose first two columns are the two 3-vectors of `six`, made orthonormal.

    The six numbers are two consecutive vectors (HMR2's layout), not the columns interleaved (SPIN's).
    Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019.
    """
    first = normalize(six[..., :3], dim=-1)  # norms below 1e-12 count as 1e-12
    second = six[..., 3:]
    second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), dim=-1)
