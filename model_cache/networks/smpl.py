"""SMPL's skinned body: shape and joint rotations in, vertices and joints out."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.functional import linear, normalize, pad

from model_cache.networks.device import device_faults, to_device, to_host

NUM_JOINTS = 24
NUM_BETAS = 10
NUM_POSE_FEATURES = 9 * (NUM_JOINTS - 1)

# The 21 vertices that smplx (0.1.28, vertex_ids.py, "smplh") appends to the joints: nose, eyes, ears, three
# per foot, five fingertips per hand.
EXTRA_JOINT_VERTEX_IDS = (
    *(332, 6260, 2800, 4071, 583),
    *(3216, 3226, 3387, 6617, 6624, 6787),
    *(2746, 2319, 2445, 2556, 2673),
    *(6191, 5782, 5905, 6016, 6133),
)
# OpenPose's BODY_25 picked from those 24 + 21 (4D-Humans, hmr2/models/smpl_wrapper.py).
OPENPOSE_FROM_SMPL = (
    *(24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7),
    *(25, 26, 27, 28, 29, 30, 31, 32, 33, 34),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyData:
    """What a body of SMPL's structure is made of.

    `posedirs` are the vertex offsets per unit of each pose feature (rotations 1..23 minus identity,
    row-major), None for a body without them.
    """

    v_template: Float32[ndarray, "v 3"]  # mean body at rest, metres, y up
    faces: Int64[ndarray, "f 3"]  # vertex indices of the triangles
    shapedirs: Float32[ndarray, "v 3 10"]  # vertex offset per unit of each shape coefficient
    posedirs: Float32[ndarray, "v 3 207"] | None
    joint_regressor: Float32[ndarray, "24 v"]  # SMPL's joints as weights over the shaped vertices
    joint_regressor_extra: Float32[ndarray, "19 v"]  # more joints as weights over the posed vertices
    parents: Int64[ndarray, " 24"]  # of each joint; smaller than its own index, -1 for the root
    lbs_weights: Float32[ndarray, "v 24"]  # how much each vertex follows each joint
    extra_joint_vertex_ids: Int64[ndarray, " 21"]  # vertices that count as joints 24..44


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedBody:
    """A body in a pose, metres, without translation."""

    vertices: Float[Tensor, "b v 3"]
    joints: Float[Tensor, "b 44 3"]  # HMR2's: 25 of OpenPose's BODY_25, then 19 extra
    smpl_joints: Float[Tensor, "b 24 3"]


class Smpl(nn.Module):
    """Linear blend skinning with shape and pose blend shapes.

    Loper et al., SMPL: A Skinned Multi-Person Linear Model, SIGGRAPH Asia 2015; joints as in HMR2.
    """

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    joint_regressor: Tensor
    joint_regressor_extra: Tensor
    lbs_weights: Tensor
    extra_joint_vertex_ids: Tensor
    openpose_from_smpl: Tensor

    def __init__(self, data: BodyData) -> None:
        super().__init__()
        self.faces = data.faces
        self.parents: list[int] = data.parents.tolist()
        buffers: dict[str, ndarray] = {
            "v_template": data.v_template.reshape(-1),
            "shapedirs": data.shapedirs.reshape(-1, NUM_BETAS),
            "joint_regressor": data.joint_regressor,
            "joint_regressor_extra": data.joint_regressor_extra,
            "lbs_weights": data.lbs_weights,
            "extra_joint_vertex_ids": data.extra_joint_vertex_ids,
            "openpose_from_smpl": np.array(OPENPOSE_FROM_SMPL),
        }
        # A product with zeros only would cost most of the whole body; leaving it out changes nothing.
        if data.posedirs is not None and data.posedirs.any():
            buffers["posedirs"] = data.posedirs.reshape(-1, NUM_POSE_FEATURES)
        self.has_posedirs = "posedirs" in buffers
        for name, array in buffers.items():
            self.register_buffer(name, torch.from_numpy(np.array(array, order="C")))

    def forward(
        self,
        global_orient: Float[Tensor, "b 1 3 3"],
        body_pose: Float[Tensor, "b 23 3 3"],
        betas: Float[Tensor, "b 10"],
    ) -> PosedBody:
        """The body with the given rotation matrices (each relative to the parent joint) and shape."""
        rotations = torch.cat((global_orient, body_pose), dim=1)
        batch = len(betas)
        shaped = linear(betas, self.shapedirs, self.v_template)  # (b, 3 v)
        rest_joints = torch.einsum("jv,bvk->bjk", self.joint_regressor, shaped.view(batch, -1, 3))
        posed = shaped
        if self.has_posedirs:
            identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            posed = shaped + linear((body_pose - identity).reshape(batch, -1), self.posedirs)
        world, joints = self._pose_joints(rotations, rest_joints)
        offsets = joints - (world @ rest_joints[..., None])[..., 0]
        transforms = torch.cat((world, offsets[..., None]), dim=-1)  # (b, 24, 3, 4)
        skinned = torch.einsum("vj,bjkl->bvkl", self.lbs_weights, transforms)
        homogeneous = pad(posed.view(batch, -1, 3), (0, 1), value=1.0)
        vertices = (skinned @ homogeneous[..., None])[..., 0]
        all_45 = torch.cat((joints, vertices[:, self.extra_joint_vertex_ids]), dim=1)
        extra = torch.einsum("jv,bvk->bjk", self.joint_regressor_extra, vertices)
        hmr2_joints = torch.cat((all_45[:, self.openpose_from_smpl], extra), dim=1)
        return PosedBody(vertices=vertices, joints=hmr2_joints, smpl_joints=joints)

    def _pose_joints(
        self, rotations: Float[Tensor, "b 24 3 3"], rest_joints: Float[Tensor, "b 24 3"]
    ) -> tuple[Float[Tensor, "b 24 3 3"], Float[Tensor, "b 24 3"]]:
        """World rotation and position of each joint, down the tree."""
        world, position = [rotations[:, 0]], [rest_joints[:, 0]]
        for joint, parent in enumerate(self.parents[1:], start=1):
            bone = (rest_joints[:, joint] - rest_joints[:, parent])[..., None]
            position.append((world[parent] @ bone)[..., 0] + position[parent])
            world.append(world[parent] @ rotations[:, joint])
        return torch.stack(world, dim=1), torch.stack(position, dim=1)


def rotation_from_6d(six: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3 3"]:
    """The rotation whose first two columns are the two 3-vectors of `six`, made orthonormal.

    The six numbers are two consecutive vectors (HMR2's layout), not the columns interleaved (SPIN's).
    Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019.
    """
    first = normalize(six[..., :3], dim=-1)  # norms below 1e-12 count as 1e-12
    second = six[..., 3:]
    second = normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second)), dim=-1)


class SmplBody:
    """The same body, on any device, as a `BodyModel`: arrays in, arrays out."""

    def __init__(self, smpl: Smpl) -> None:
        self._smpl = smpl
        self.faces: Int64[ndarray, "f 3"] = smpl.faces

    def vertices(
        self,
        global_orient: Float32[ndarray, "n 1 3 3"],
        body_pose: Float32[ndarray, "n 23 3 3"],
        betas: Float32[ndarray, "n 10"],
    ) -> Float32[ndarray, "n v 3"]:
        """Posed vertices, metres, body frame without translation."""
        (vertices,) = self._pose("vertices", global_orient, body_pose, betas)
        return vertices

    def joints(
        self,
        global_orient: Float32[ndarray, "n 1 3 3"],
        body_pose: Float32[ndarray, "n 23 3 3"],
        betas: Float32[ndarray, "n 10"],
    ) -> tuple[Float32[ndarray, "n 44 3"], Float32[ndarray, "n 24 3"]]:
        """HMR2's 44 joints and SMPL's own 24, metres, body frame without translation."""
        joints, smpl_joints = self._pose("joints smpl_joints", global_orient, body_pose, betas)
        return joints, smpl_joints

    @device_faults()
    @torch.inference_mode()
    def _pose(self, wanted: str, *arrays: ndarray) -> list[ndarray]:
        copies = [np.array(array, np.float32) for array in arrays]  # they may be read-only
        posed: PosedBody = self._smpl(*to_device(copies, self._smpl.v_template.device))
        return to_host(*(getattr(posed, name) for name in wanted.split()))
