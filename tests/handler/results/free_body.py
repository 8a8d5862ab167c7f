"""The bundled free body as a body model in plain numpy."""

import numpy as np

from training.body import Body, PosedBody


class FreeBody:
    """Linear blend skinning, one body after the other."""

    def __init__(self) -> None:
        self._body = Body()
        self.faces = self._body.faces.astype(np.int64)

    def vertices(self, global_orient: np.ndarray, body_pose: np.ndarray, betas: np.ndarray) -> np.ndarray:
        """Posed vertices without translation."""
        return np.stack([one.vertices for one in self._posed(global_orient, body_pose, betas)])

    def joints(self, global_orient: np.ndarray, body_pose: np.ndarray, betas: np.ndarray) -> tuple:
        """HMR2's 44 posed joints and SMPL's 24, without translation."""
        posed = self._posed(global_orient, body_pose, betas)
        return np.stack([one.joints_44 for one in posed]), np.stack([one.joints for one in posed])

    def _posed(self, global_orient: np.ndarray, body_pose: np.ndarray, betas: np.ndarray) -> list[PosedBody]:
        rotations = np.concatenate([global_orient, body_pose], axis=1)
        return [self._body.pose(*one) for one in zip(rotations, betas, strict=True)]
