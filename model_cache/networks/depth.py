"""Draws depth maps of meshes, in plain torch, or on the CPU with numba in a third of the time.

The camera, the inside test and the depth are those of neural_renderer as HMAR uses it: every triangle is
two-sided, pixel centres lie at half pixels, edges belong to the triangle, the nearest surface wins.
"""

from collections.abc import Callable
from importlib.util import find_spec
from inspect import unwrap
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

MAP_SIZE = 256  # pixels of HMR2's crop
FOCAL_LENGTH_PX = 5000.0  # HMR2's crop camera
NEAR_DEPTH = 0.1  # neural_renderer's defaults, metres
FAR_DEPTH = 100.0  # also the value of the background
PIXEL_SLACK = 1e-3  # px; boxes are widened by it so that rounding never loses a pixel on an edge
CANDIDATES_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 22}  # (triangle, pixel) pairs of 100 bytes: a cache, a GPU


class Triangles(NamedTuple):  # a tuple, since numba takes one
    """Triangles that may cover a pixel centre, of all meshes of a batch, ready to be filled.

    The edge functions are affine in the offset from the box's corner, so their numbers stay small and
    neighbours agree on a shared edge: `constant + by_column * column + by_row * row`, one for each corner's
    opposite edge, square pixels, positive inside whatever the winding.
    """

    mesh: Int64[Tensor, " t"]  # index in the batch
    corner: Int64[Tensor, "t 2"]  # first column and row of the pixel box
    size: Int64[Tensor, "t 2"]  # its columns and rows, at least 1
    constant: Float32[Tensor, "t 3"]
    by_column: Float32[Tensor, "t 3"]
    by_row: Float32[Tensor, "t 3"]
    inverse_depth: Float32[Tensor, "t 3"]  # 1 / camera z of the corners, 1/m


Fill = Callable[[Triangles, Float32[Tensor, "b 256 256"]], None]
"""Lowers the given depth maps, which start at `FAR_DEPTH`, in place."""


def depth_maps(
    vertices: Float32[Tensor, "b v 3"], faces: Int64[Tensor, "f 3"], *, fill: Fill | None = None
) -> Float32[Tensor, "b 256 256"]:
    """Camera z of the nearest surface at each crop pixel, metres; `FAR_DEPTH` where there is none.

    Vertices that are not finite or not between the near and the far plane draw nothing. Memory is bounded by
    `CANDIDATES_AT_ONCE` however large the triangles are.

    Args:
        vertices: metres, camera frame of the crop (x right, y down, z forward).
        faces: vertex indices of the triangles, the same in all meshes.
        fill: how triangles become pixels; by default `fill_in_torch`.
    """
    maps = vertices.new_full((len(vertices), MAP_SIZE, MAP_SIZE), FAR_DEPTH)
    (fill or fill_in_torch)(find_triangles(vertices, faces), maps)
    return maps


def find_triangles(vertices: Float32[Tensor, "b v 3"], faces: Int64[Tensor, "f 3"]) -> Triangles:
    """Projects the meshes and keeps the triangles whose box holds a pixel centre and whose depth counts."""
    z = vertices[..., 2:]
    pixels = vertices[..., :2] / z * FOCAL_LENGTH_PX + (MAP_SIZE - 1) / 2  # whole numbers at pixel centres
    points = torch.cat([pixels, z], dim=-1)
    a, b, c = (points.index_select(1, corner) for corner in faces.T)
    lowest, highest = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    first = torch.ceil(lowest[..., :2] - PIXEL_SLACK).clamp(min=0)
    last = torch.floor(highest[..., :2] + PIXEL_SLACK).clamp(max=MAP_SIZE - 1)
    in_depth = (highest[..., 2] > NEAR_DEPTH) & (lowest[..., 2] < FAR_DEPTH)
    holds_pixel = (last[..., 0] >= first[..., 0]) & (last[..., 1] >= first[..., 1])
    mesh, face = torch.nonzero(holds_pixel & in_depth, as_tuple=True)

    corners = torch.stack([corner[mesh, face] for corner in (a, b, c)], dim=1)
    first, last = first[mesh, face], last[mesh, face]
    relative = corners[..., :2] - first[:, None]
    start, end = relative.roll(-1, dims=1), relative.roll(-2, dims=1)
    edge = end - start
    constant = edge[..., 1] * start[..., 0] - edge[..., 0] * start[..., 1]
    doubled_area = constant.sum(1, keepdim=True)
    winding = torch.where(doubled_area < 0, -1.0, 1.0)
    return Triangles(
        mesh=mesh,
        corner=first.long(),
        size=(last - first + 1).long(),
        constant=constant * winding,
        by_column=-edge[..., 1] * winding,
        by_row=edge[..., 0] * winding,
        inverse_depth=1 / corners[..., 2],
    )


def fill_in_torch(triangles: Triangles, maps: Float32[Tensor, "b 256 256"]) -> None:
    """Lists every pixel of every triangle's box, keeps those inside, and lets the nearest win.

    Waits for the device thrice a part: for the numbers of pixels to list (in all, of the part) and inside.
    """
    ends = triangles.size.prod(1).cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    at_once = CANDIDATES_AT_ONCE[maps.device.type]
    wanted = torch.arange(1, total // at_once + 1, device=ends.device) * at_once
    cuts = [0, *torch.searchsorted(ends, wanted).add(1).tolist()]
    for first, last in zip(cuts, [*cuts[1:], len(ends)], strict=True):
        if last > first:
            _fill_part(Triangles._make(column[first:last] for column in triangles), maps)


def _fill_part(triangles: Triangles, maps: Float32[Tensor, "b 256 256"]) -> None:
    num_pixels = triangles.size.prod(1)
    ends = num_pixels.cumsum(0)
    triangle = torch.repeat_interleave(num_pixels, output_size=int(ends[-1]))
    place = torch.arange(len(triangle), device=maps.device) - (ends - num_pixels)[triangle]
    columns = triangles.size[triangle, 0]
    row = place // columns
    column = place - row * columns

    edges = triangles.constant[triangle]
    edges.addcmul_(triangles.by_column[triangle], column[:, None].float())
    edges.addcmul_(triangles.by_row[triangle], row[:, None].float())
    inside = torch.nonzero(edges.amin(1) >= 0)[:, 0]
    edges, triangle, row, column = edges[inside], triangle[inside], row[inside], column[inside]
    # perspective-correct: 1/z is the mean of the corners' 1/z with the edge functions as weights
    z = edges.sum(1) / (edges * triangles.inverse_depth[triangle]).sum(1)
    z = torch.where((z > NEAR_DEPTH) & (z < FAR_DEPTH), z, FAR_DEPTH)  # also drops triangles without area
    corner = triangles.corner[triangle]
    mesh_row = triangles.mesh[triangle] * MAP_SIZE + corner[:, 1] + row
    maps.view(-1).scatter_reduce_(0, mesh_row * MAP_SIZE + corner[:, 0] + column, z, "amin")


def compiled_fill() -> Fill | None:
    """The numbers of `fill_in_torch` on the CPU by numba, or None where numba is not installed.

    Compiles at the first fill (about a second), so load it once and warm it up.
    """
    if find_spec("numba") is None:
        return None
    import numba  # here, since it takes a third of a second

    # unwrapped: the shape checks that tests switch on wrap every function, and numba cannot compile them
    fill_loop = numba.njit(unwrap(_fill_loop), nogil=True)

    def fill(triangles: Triangles, maps: Float32[Tensor, "b 256 256"]) -> None:
        fill_loop(Triangles._make(column.numpy() for column in triangles), maps.numpy())

    return fill


def _fill_loop(triangles: Any, maps: Any) -> None:  # numpy arrays
    """One triangle after the other, pixel by pixel; compiled by numba."""
    mesh, corner, size, constant, by_column, by_row, inverse_depth = triangles
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
