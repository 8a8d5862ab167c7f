"""HMR2: a person crop in, the posed body and its camera out. Knows nothing of frames, boxes or files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model_cache.networks.decoder import HeadOutput, SmplHead
from model_cache.networks.smpl import PosedBody, Smpl
from model_cache.networks.vit import CROP_SIZE

FOCAL_LENGTH = 5000.0  # HMR2's assumed focal length, pixels of the crop
_TINY = 1e-9  # HMR2's guard against a scale of zero


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyEstimate:
    """People as HMR2 sees them, one row per crop.

    Attributes:
        global_orient: root rotation matrix, camera frame (x right, y down, z forward).
        body_pose: joint rotation matrices relative to the parent joint.
        betas: shape coefficients.
        crop_cam: weak camera of the crop (s, tx, ty), crop units.
        crop_cam_t: the same as a translation in metres in front of the crop's own camera, which has a
            focal length of 5000 pixels. Never the person's place in the full image.
        vertices: metres, body frame without translation.
        joints_3d: HMR2's 44 joints, metres, body frame without translation.
        smpl_joints_3d: SMPL's own 24, the same way.
    """

    global_orient: Float[Tensor, "b 1 3 3"]
    body_pose: Float[Tensor, "b 23 3 3"]
    betas: Float[Tensor, "b 10"]
    crop_cam: Float[Tensor, "b 3"]
    crop_cam_t: Float[Tensor, "b 3"]
    vertices: Float[Tensor, "b v 3"]
    joints_3d: Float[Tensor, "b 44 3"]
    smpl_joints_3d: Float[Tensor, "b 24 3"]

    def first(self, num: int) -> "BodyEstimate":
        """The first `num` rows."""
        return BodyEstimate(**{field.name: getattr(self, field.name)[:num] for field in fields(self)})

    @classmethod
    def concatenate(cls, parts: list["BodyEstimate"]) -> "BodyEstimate":
        """The rows of all parts in order; at least one part."""
        return cls(
            **{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        )


class Hmr2(nn.Module):
    """A backbone that turns crops into tokens, the SMPL head, and the body.

    Head, body and camera run in float32 whatever the backbone runs in: the camera's depth is
    2 * 5000 / (256 s), so it magnifies any error of s.

    Args:
        backbone: crops to tokens; None where tokens come from elsewhere and only `from_tokens` is used.
        head: the SMPL head.
        body: the SMPL body.
    """

    def __init__(self, *, backbone: nn.Module | None, head: SmplHead, body: Smpl) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.body = body

    def forward(self, crops: Float[Tensor, "b 3 256 256"]) -> BodyEstimate:
        """The people in normalised RGB crops."""
        if self.backbone is None:
            raise TypeError("this HMR2 has no backbone of its own: give it tokens")
        return self.from_tokens(self.backbone(crops))

    def from_tokens(self, tokens: Float[Tensor, "b n c"]) -> BodyEstimate:
        """The people behind feature tokens."""
        read: HeadOutput = self.head(tokens.float())
        posed: PosedBody = self.body(read.global_orient, read.body_pose, read.betas)
        return BodyEstimate(
            global_orient=read.global_orient,
            body_pose=read.body_pose,
            betas=read.betas,
            crop_cam=read.crop_cam,
            crop_cam_t=crop_translation(read.crop_cam),
            vertices=posed.vertices,
            joints_3d=posed.joints,
            smpl_joints_3d=posed.smpl_joints,
        )


def crop_translation(crop_cam: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
    """The weak camera (s, tx, ty) as a translation (tx, ty, 2 f / (256 s)) before the crop's camera."""
    scale, x, y = crop_cam.unbind(-1)
    return torch.stack((x, y, 2 * FOCAL_LENGTH / (CROP_SIZE * scale + _TINY)), dim=-1)


class BucketedHmr2:
    """HMR2 in batches of a few fixed sizes, so that memory is reused and kernels are chosen once.

    Args:
        hmr2: the loaded network.
        largest_batch: crops in the largest batch; the others are the powers of two below it.
    """

    def __init__(self, hmr2: Hmr2, *, largest_batch: int = 32) -> None:
        self._hmr2 = hmr2
        powers = (2**exponent for exponent in range(largest_batch.bit_length()))
        self.batch_sizes = tuple(sorted({*powers, largest_batch}))

    @property
    def body(self) -> Smpl:
        """The body that the results are made with."""
        return self._hmr2.body

    def __call__(self, crops: Float[Tensor, "n 3 256 256"]) -> BodyEstimate:
        """The people in normalised RGB crops, on the device of the weights; any number of them but none."""
        return self._in_buckets(crops, self._hmr2)

    def from_tokens(self, tokens: Float[Tensor, "n t c"]) -> BodyEstimate:
        """The people behind feature tokens; any number of them but none."""
        return self._in_buckets(tokens, self._hmr2.from_tokens)

    def _in_buckets(self, rows: Tensor, run: Callable[[Tensor], BodyEstimate]) -> BodyEstimate:
        with torch.inference_mode(), exact_float32():
            return BodyEstimate.concatenate(
                [self._padded(part, run) for part in torch.split(rows, self.batch_sizes[-1])]
            )

    def _padded(self, part: Tensor, run: Callable[[Tensor], BodyEstimate]) -> BodyEstimate:
        size = next(size for size in self.batch_sizes if size >= len(part))
        # Copies of a real row, since rows of zeros could turn up where finiteness is checked.
        padding = part[-1:].expand(size - len(part), *part.shape[1:])
        return run(torch.cat((part, padding))).first(len(part))


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keeps float32 products in float32: torch lets cuDNN round them to TF32 (10 bits) by default."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
