"""Fills depth maps on the CPU with numba, where it is installed: same numbers, a third of the time.

Knows nothing of torch's own way of filling, which needs no numba.
"""

from importlib.util import find_spec
from inspect import unwrap
from typing import Any

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from model_cache.networks.depth import FAR_DEPTH, NEAR_DEPTH, Fill, Triangles


def compiled_fill() -> Fill | None:
    """A fill for `depth_maps` on the CPU, or None where numba is not installed.

    Compiles at the first fill (about a second), so load it once and warm it up.
    """
    if find_spec("numba") is None:
        return None
    import numba  # imported only when wanted: an optional extra that takes a third of a second to import

    # unwrapped: the shape checks that tests switch on wrap every function, and numba cannot compile them
    fill_loop = numba.njit(unwrap(_fill_loop), nogil=True)

    def fill(triangles: Triangles, maps: Float32[Tensor, "b 256 256"]) -> None:
        fill_loop(
            triangles.mesh.numpy(),
            triangles.corner.numpy(),
            triangles.size.numpy(),
            triangles.constant.numpy(),
            triangles.by_column.numpy(),
            triangles.by_row.numpy(),
            triangles.inverse_depth.numpy(),
            maps.numpy(),
        )

    return fill


def _fill_loop(
    mesh: Any,  # numba sees numpy arrays, as `Triangles` describes them
    corner: Any,
    size: Any,
    constant: Any,
    by_column: Any,
    by_row: Any,
    inverse_depth: Any,
    maps: Any,
) -> None:
    """One triangle after the other, pixel by pixel; compiled by numba."""
    for triangle in range(len(mesh)):
        for row in range(size[triangle, 1]):
            for column in range(size[triangle, 0]):
                x, y = np.float32(column), np.float32(row)
                weight_0 = constant[triangle, 0] + by_column[triangle, 0] * x + by_row[triangle, 0] * y
                weight_1 = constant[triangle, 1] + by_column[triangle, 1] * x + by_row[triangle, 1] * y
                weight_2 = constant[triangle, 2] + by_column[triangle, 2] * x + by_row[triangle, 2] * y
                # "not all inside" instead of "any outside": a NaN draws nothing
                if not (weight_0 >= 0 and weight_1 >= 0 and weight_2 >= 0):
                    continue
                inverse = (
                    weight_0 * inverse_depth[triangle, 0]
                    + weight_1 * inverse_depth[triangle, 1]
                    + weight_2 * inverse_depth[triangle, 2]
                )
                if inverse == 0:  # a triangle without area
                    continue
                z = (weight_0 + weight_1 + weight_2) / inverse
                if NEAR_DEPTH < z < FAR_DEPTH:
                    here = (mesh[triangle], corner[triangle, 1] + row, corner[triangle, 0] + column)
                    maps[here] = min(maps[here], z)
