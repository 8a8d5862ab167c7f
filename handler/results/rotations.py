"""Rotation matrices as axis-angle and back."""

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray
from scipy.spatial.transform import Rotation

from handler.errors import ComputeError, ErrorCode

ORTHONORMAL_TOLERANCE = 1e-4  # float32 networks are within 1e-6; a broken one is not


def axis_angle(matrices: Float32[ndarray, "*batch 3 3"]) -> Float32[ndarray, "*batch 3"]:
    """The rotation vectors, radians, angle 0 to pi; stable at both ends.

    Raises:
        ComputeError: MODEL_OUTPUT_INVALID, a matrix is not a rotation.
    """
    flat = matrices.reshape(-1, 3, 3)
    if not len(flat):
        return np.empty(matrices.shape[:-1], np.float32)
    # Orthogonalising every matrix would cost ten times as much; instead only what survives the round trip is
    # accepted, which no matrix but a rotation does.
    rotation = Rotation.from_matrix(flat, assume_valid=True)
    with np.errstate(invalid="ignore"):
        gap = np.abs(rotation.as_matrix() - flat).max()
    if not gap < ORTHONORMAL_TOLERANCE:  # a NaN must not pass
        raise ComputeError(
            ErrorCode.MODEL_OUTPUT_INVALID, "a model gave a matrix that is not a rotation", stage="write"
        )
    return rotation.as_rotvec().astype(np.float32).reshape(matrices.shape[:-1])


def rotation_matrices(vectors: Float[ndarray, "*batch 3"]) -> Float32[ndarray, "*batch 3 3"]:
    """The rotation matrices of rotation vectors in radians."""
    flat = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix()
    return flat.astype(np.float32).reshape(*vectors.shape, 3)
