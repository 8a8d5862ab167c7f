"""The bundled free body, skinned in plain numpy: a body model for tests that knows nothing of torch."""

from pathlib import Path

import numpy as np

import model_cache

BODY = Path(model_cache.__file__).parent / "lite" / "body.npz"


class FreeBody:
    """Linear blend skinning, one body after the other."""

    def __init__(self) -> None:
        with np.load(BODY) as data:
            self._data = {name: array.astype(np.float32) for name, array in data.items()}
            self.faces = data["faces"].astype(np.int64)
            self._parents = data["parents"].tolist()

    def vertices(self, global_orient: np.ndarray, body_pose: np.ndarray, betas: np.ndarray) -> np.ndarray:
        """Posed vertices without translation."""
        rotations = np.concatenate([global_orient, body_pose], axis=1)
        return np.stack([self._pose(*one)[0] for one in zip(rotations, betas, strict=True)])

    def joints(self, global_orient: np.ndarray, body_pose: np.ndarray, betas: np.ndarray) -> tuple:
        """Zeros for HMR2's 44, and the 24 posed joints."""
        rotations = np.concatenate([global_orient, body_pose], axis=1)
        joints = np.stack([self._pose(*one)[1] for one in zip(rotations, betas, strict=True)])
        return np.zeros((len(betas), 44, 3), np.float32), joints

    def _pose(self, rotations: np.ndarray, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shaped = self._data["v_template"] + self._data["shapedirs"] @ betas
        rest = self._data["J_regressor"] @ shaped
        chain = np.zeros((24, 4, 4), np.float32)
        for joint, parent in enumerate(self._parents):
            local = np.eye(4, dtype=np.float32)
            local[:3, :3] = rotations[joint]
            local[:3, 3] = rest[joint] - (rest[parent] if joint else 0)
            chain[joint] = chain[parent] @ local if joint else local
        joints = chain[:, :3, 3].copy()
        chain[:, :3, 3] -= np.einsum("jab,jb->ja", chain[:, :3, :3], rest)
        blend = np.einsum("vj,jab->vab", self._data["lbs_weights"], chain)
        vertices = np.einsum("vab,vb->va", blend[:, :3, :3], shaped) + blend[:, :3, 3]
        return vertices.astype(np.float32), joints.astype(np.float32)
