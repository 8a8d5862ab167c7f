"""The free body in numpy: parameters to vertices and joints."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_cache.lite.files import LITE_FOLDER
from training.skeleton import PARENTS

Array = NDArray[np.float32]

# BODY_25 out of the 24 posed joints and the 21 vertex joints, as SMPL's users order them (spec of HMR2).
BODY_25 = [24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34]


@dataclass(frozen=True, slots=True, kw_only=True)
class PosedBody:
    """One posed body in the frame of its root rotation, without translation.

    Attributes:
        vertices: (6890, 3) metres.
        normals: (6890, 3) unit.
        joints: (24, 3) SMPL's own joints.
        joints_44: (44, 3) HMR2's joints.
    """

    vertices: Array
    normals: Array
    joints: Array
    joints_44: Array


class Body:
    """The body model, loaded once."""

    def __init__(self, path: Path = LITE_FOLDER / "body.npz") -> None:
        data = np.load(path)
        self.template: Array = data["v_template"].astype(np.float32)
        self.faces: NDArray[np.int32] = data["faces"].astype(np.int32)
        self.weights: Array = data["lbs_weights"].astype(np.float32)
        self.directions: Array = data["shapedirs"].astype(np.float32).reshape(-1, 10)
        self.regressor: Array = data["J_regressor"].astype(np.float32)
        self.vertex_joints: NDArray[np.int64] = data["extra_joint_vertex_ids"]
        extra = data["joint_regressor_extra"].astype(np.float32)
        self._extra_vertices = np.flatnonzero(extra.any(0))
        self._extra = extra[:, self._extra_vertices]
        self._joint_template = self.regressor @ self.template
        self._joint_directions = np.einsum(
            "jv,vdb->jdb", self.regressor, self.directions.reshape(-1, 3, 10)
        ).reshape(-1, 10)

    def rest_joints(self, betas: Array) -> Array:
        """The 24 joints of a shape before any rotation."""
        return self._joint_template + (self._joint_directions @ betas).reshape(24, 3)

    def pose(self, rotations: Array, betas: Array) -> PosedBody:
        """Pose the body.

        Args:
            rotations: (24, 3, 3), the first is the root's world rotation, the others relative to the parent.
            betas: (10,).
        """
        shaped = self.template + (self.directions @ betas).reshape(-1, 3)
        rest = self.rest_joints(betas)
        world = np.empty((24, 3, 3), np.float32)
        joints = np.empty((24, 3), np.float32)
        world[0], joints[0] = rotations[0], rest[0]
        for joint in range(1, 24):
            parent = PARENTS[joint]
            world[joint] = world[parent] @ rotations[joint]
            joints[joint] = joints[parent] + world[parent] @ (rest[joint] - rest[parent])
        offsets = joints - np.einsum("jab,jb->ja", world, rest)
        blended = (self.weights @ world.reshape(24, 9)).reshape(-1, 3, 3)
        vertices = np.einsum("vab,vb->va", blended, shaped) + self.weights @ offsets
        vertices = vertices.astype(np.float32)
        all_joints = np.concatenate([joints, vertices[self.vertex_joints]])
        joints_44 = np.concatenate([all_joints[BODY_25], self._extra @ vertices[self._extra_vertices]])
        return PosedBody(
            vertices=vertices,
            normals=self._normals(vertices),
            joints=joints,
            joints_44=joints_44.astype(np.float32),
        )

    def _normals(self, vertices: Array) -> Array:
        corners = vertices[self.faces]
        per_face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.empty_like(vertices)
        for axis in range(3):
            normals[:, axis] = sum(
                np.bincount(self.faces[:, c], per_face[:, axis], len(vertices)) for c in range(3)
            )
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
