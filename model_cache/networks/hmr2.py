"""HMR2: person crops in, posed bodies and their cameras out.

docs/17-another-body-regressor.md shows how to put another network in its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_cache.errors import ModelOutputInvalid, UnknownModel
from model_cache.networks.decoder import BodyParameters, SmplHead
from model_cache.networks.smpl import NUM_BETAS, NUM_JOINTS, PosedBody, Smpl
from model_cache.networks.vit import CROP_SIZE
from model_cache.registry import LoadOptions, load_named

FOCAL_LENGTH = 5000.0  # HMR2's assumed focal length, pixels of the crop
_TINY = 1e-9  # HMR2's guard against a scale of zero
_SHAPES = {  # of `BodyParameters`, for one person
    "global_orient": (1, 3, 3),
    "body_pose": (NUM_JOINTS - 1, 3, 3),
    "betas": (NUM_BETAS,),
    "crop_cam": (3,),
}


class BodyRegressor(nn.Module):
    """Crops to SMPL parameters: HMR2, or a network in its place.

    Attributes:
        weights: files that it was loaded from, by the names that results give them (with their SHA-256).
    """

    weights: Mapping[str, Path] = {}

    def forward(self, crops: Float[Tensor, "b 3 256 256"]) -> BodyParameters:
        """The person in each crop.

        Args:
            crops: RGB, normalised by ImageNet's mean and deviation, on the worker's device.
        """
        raise NotImplementedError


class Hmr2(BodyRegressor):
    """A backbone that turns crops into tokens, and the SMPL head, which runs in float32 in any case."""

    def __init__(self, *, backbone: nn.Module, head: SmplHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, crops: Float[Tensor, "b 3 256 256"]) -> BodyParameters:
        """The person in each crop."""
        people: BodyParameters = self.head(self.backbone(crops).float())
        return people


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyEstimate(BodyParameters):
    """Posed people, one row per crop; vertices and joints in metres, body frame without translation.

    `crop_cam_t` is `crop_cam` as a translation in metres in front of the crop's own camera, which has a
    focal length of 5000 pixels. Never the person's place in the full image.
    """

    crop_cam_t: Float[Tensor, "b 3"]
    vertices: Float[Tensor, "b v 3"]
    joints_3d: Float[Tensor, "b 44 3"]  # HMR2's
    smpl_joints_3d: Float[Tensor, "b 24 3"]  # SMPL's own


class BodyEstimator:
    """A regressor and the body it poses, in batches of a few fixed sizes.

    So memory is reused and kernels are chosen once: the largest batch, and the powers of two below it. Body
    and camera are float32: the camera's depth is 2 * 5000 / (256 s), so it magnifies any error of s.
    """

    def __init__(self, regressor: BodyRegressor, body: Smpl, *, largest_batch: int = 32) -> None:
        self.regressor = regressor
        self.body = body
        powers = (2**exponent for exponent in range(largest_batch.bit_length()))
        self.batch_sizes = tuple(sorted({*powers, largest_batch}))

    def __call__(self, crops: Float[Tensor, "n 3 256 256"]) -> BodyEstimate:
        """The people in normalised RGB crops, on the device of the weights; at least one.

        Raises:
            ModelOutputInvalid: the regressor gave tensors of other shapes than promised.
        """
        with torch.inference_mode():
            parts = [self._estimate(part) for part in torch.split(crops, self.batch_sizes[-1])]
        return BodyEstimate(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def _estimate(self, crops: Float[Tensor, "n 3 256 256"]) -> dict[str, Tensor]:
        """The columns of `BodyEstimate`."""
        size = next(size for size in self.batch_sizes if size >= len(crops))
        # Copies of a real row, since rows of zeros could turn up where finiteness is checked.
        padding = crops[-1:].expand(size - len(crops), *crops.shape[1:])
        found: BodyParameters = self.regressor(torch.cat((crops, padding)))
        for name, shape in _SHAPES.items():
            given, expected = tuple(getattr(found, name).shape), (size, *shape)
            if given != expected:
                network = type(self.regressor).__name__
                raise ModelOutputInvalid(f"{network} gave {name} of shape {given}; it must be {expected}")
        people = {name: getattr(found, name).float() for name in _SHAPES}
        posed: PosedBody = self.body(people["global_orient"], people["body_pose"], people["betas"])
        rows = {
            **people,
            "crop_cam_t": crop_translation(people["crop_cam"]),
            "vertices": posed.vertices,
            "joints_3d": posed.joints,
            "smpl_joints_3d": posed.smpl_joints,
        }
        return {name: row[: len(crops)] for name, row in rows.items()}


def crop_translation(crop_cam: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
    """The weak camera (s, tx, ty) as a translation (tx, ty, 2 f / (256 s)) before the crop's camera."""
    scale, x, y = crop_cam.unbind(-1)
    return torch.stack((x, y, 2 * FOCAL_LENGTH / (CROP_SIZE * scale + _TINY)), dim=-1)


def load_regressor(options: LoadOptions) -> BodyRegressor:
    """The operator's own body regressor, which BODY_REGRESSOR names; frozen, in eval mode, on the device.

    Raises:
        UnknownModel: it cannot be imported, or is no `BodyRegressor`.
    """
    regressor = load_named("BODY_REGRESSOR", options.name, options)
    if not isinstance(regressor, BodyRegressor):
        raise UnknownModel(
            f"BODY_REGRESSOR={options.name} gives a {type(regressor).__name__}; it must derive from "
            f"BodyRegressor of {BodyRegressor.__module__}"
        )
    return regressor.to(options.device).eval().requires_grad_(False)
