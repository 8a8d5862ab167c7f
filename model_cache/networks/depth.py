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

from model_cache.networks.device import to_host

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


Fill = Callable[[Triangles, int, Float32[Tensor, "b 256 256"]], None]
"""Lowers depth maps, which start at `FAR_DEPTH`, in place, by what `find_triangles` gave."""


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
    (fill or fill_in_torch)(*find_triangles(vertices, faces), maps)
    return maps


def find_triangles(vertices: Float32[Tensor, "b v 3"], faces: Int64[Tensor, "f 3"]) -> tuple[Triangles, int]:
    """Projects the meshes and keeps the triangles whose box holds a pixel centre and whose depth counts.

    Waits for the device once, to know how many there are and, the second value, how many pixels they box.
    """
    z = vertices[..., 2:]
    pixels = vertices[..., :2] / z * FOCAL_LENGTH_PX + (MAP_SIZE - 1) / 2  # whole numbers at pixel centres
    points = torch.cat([pixels, z], dim=-1)
    a, b, c = (points.index_select(1, corner) for corner in faces.T)
    lowest, highest = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    first = torch.ceil(lowest[..., :2] - PIXEL_SLACK).clamp(min=0)
    last = torch.floor(highest[..., :2] + PIXEL_SLACK).clamp(max=MAP_SIZE - 1)
    in_depth = (highest[..., 2] > NEAR_DEPTH) & (lowest[..., 2] < FAR_DEPTH)
    holds_pixel = (last[..., 0] >= first[..., 0]) & (last[..., 1] >= first[..., 1])
    kept = holds_pixel & in_depth
    boxed = torch.where(kept, (last[..., 0] - first[..., 0] + 1) * (last[..., 1] - first[..., 1] + 1), 0)
    (counts,) = to_host(torch.stack([kept.sum(), boxed.sum(dtype=torch.int64)]))
    num_triangles, num_pixels = counts.tolist()
    chosen = torch.nonzero_static(kept.flatten(), size=num_triangles)[:, 0]

    corners = torch.stack([corner.flatten(0, 1).index_select(0, chosen) for corner in (a, b, c)], dim=1)
    first, last = (side.flatten(0, 1).index_select(0, chosen) for side in (first, last))
    relative = corners[..., :2] - first[:, None]
    start, end = relative.roll(-1, dims=1), relative.roll(-2, dims=1)
    edge = end - start
    constant = edge[..., 1] * start[..., 0] - edge[..., 0] * start[..., 1]
    doubled_area = constant.sum(1, keepdim=True)
    winding = torch.where(doubled_area < 0, -1.0, 1.0)
    triangles = Triangles(
        mesh=chosen // len(faces),
        corner=first.long(),
        size=(last - first + 1).long(),
        constant=constant * winding,
        by_column=-edge[..., 1] * winding,
        by_row=edge[..., 0] * winding,
        inverse_depth=1 / corners[..., 2],
    )
    return triangles, num_pixels


def fill_in_torch(triangles: Triangles, num_pixels: int, maps: Float32[Tensor, "b 256 256"]) -> None:
    """Lists every pixel of every triangle's box, so many at once, and lets the nearest inside win.

    Does not wait for the device.
    """
    ends = triangles.size.prod(1).cumsum(0)
    at_once = CANDIDATES_AT_ONCE[maps.device.type]
    for start in range(0, num_pixels, at_once):
        _fill_part(triangles, ends, range(start, min(start + at_once, num_pixels)), maps)


def _fill_part(
    triangles: Triangles, ends: Int64[Tensor, " t"], part: range, maps: Float32[Tensor, "b 256 256"]
) -> None:
    """Some of the pixels of all boxes in a row; a triangle's are those before its place in `ends`."""
    in_part = ends.clamp(part.start, part.stop).diff(prepend=ends.new_full((1,), part.start))
    triangle = torch.repeat_interleave(in_part, output_size=len(part))
    starts = ends - triangles.size.prod(1)
    place = torch.arange(part.start, part.stop, device=maps.device) - starts[triangle]
    columns = triangles.size[triangle, 0]
    row = place // columns
    column = place - row * columns

    edges = triangles.constant[triangle]
    edges.addcmul_(triangles.by_column[triangle], column[:, None].float())
    edges.addcmul_(triangles.by_row[triangle], row[:, None].float())
    inside = edges.amin(1) >= 0
    if maps.device.type == "cpu":  # where their number is known at once, the others can go
        kept = torch.nonzero(inside)[:, 0]
        edges, triangle, row, column, inside = (x[kept] for x in (edges, triangle, row, column, inside))
    # perspective-correct: 1/z is the mean of the corners' 1/z with the edge functions as weights
    z = edges.sum(1) / (edges * triangles.inverse_depth[triangle]).sum(1)
    z = torch.where(inside & (z > NEAR_DEPTH), z, FAR_DEPTH)  # also drops triangles without area
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

    def fill(triangles: Triangles, num_pixels: int, maps: Float32[Tensor, "b 256 256"]) -> None:
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
