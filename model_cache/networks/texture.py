"""Unwraps a person's pixels onto the body's UV map."""

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, Integer
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import grid_sample

from model_cache.errors import WeightsInvalid
from model_cache.networks.depth import FOCAL_LENGTH_PX, MAP_SIZE, Fill, compiled_fill, depth_maps

GRID_SCALE = 2 * FOCAL_LENGTH_PX / MAP_SIZE  # x / z to -1..1 between the crop's borders
VISIBILITY_SLACK = 1e-4  # metres behind the depth map that still count as seen, HMAR's value
COLOUR_DIVISOR = 5.0  # HMAR's: brings normalised colours to about -0.5..0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class UvMap:
    """Which point of the body's surface each texel shows; official `bmap_256.npy` and `fmap_256.npy`."""

    barycentric: Float32[ndarray, "rows columns 3"]  # weights of a triangle's three corners
    face_index: Integer[ndarray, "rows columns"]  # the triangle; negative where the texel shows nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledTexels:
    """What the crop and the depth map say at each texel's place, texels in row-major order of the UV map."""

    colours: Float32[Tensor, "b 3 n"]  # normalised R, G, B
    mask: Float32[Tensor, "b n"]  # the person's, 0 to 1
    surface_depth: Float32[Tensor, "b n"]  # metres; mixed with the background at silhouettes
    visible: Bool[Tensor, "b n"]  # whether the texel's point is that surface


class TextureSampler:
    """HMAR's texture sampler: a texel gets the colour of its surface point in the crop, if it is seen there.

    Whether a texel is seen hangs on 0.1 mm of depth, so the same float32 vertices serve the texels and the
    depth map. On the CPU, `compiled` has the depth maps filled by numba where it is installed.
    """

    def __init__(
        self,
        *,
        uv_map: UvMap,
        faces: Int64[ndarray, "f 3"],
        device: torch.device | str = "cpu",
        compiled: bool = True,
    ) -> None:
        seen = uv_map.face_index >= 0
        if not seen.any() or int(uv_map.face_index.max()) >= len(faces):
            raise WeightsInvalid("the UV map does not fit the body model's triangles")
        device = torch.device(device)
        self._faces = torch.from_numpy(faces).to(device)
        self._map_shape = seen.shape
        self._texels = torch.from_numpy(np.flatnonzero(seen)).to(device)
        self.num_texels = len(self._texels)
        texel_faces = faces[uv_map.face_index[seen].astype(np.int64)]
        self._texel_vertices = torch.from_numpy(texel_faces.T.copy()).to(device)  # (3, n)
        weights = uv_map.barycentric[seen].astype(np.float32)
        self._texel_weights = torch.from_numpy(weights.T[..., None].copy()).to(device)  # (3, n, 1)
        self._fill: Fill | None = compiled_fill() if compiled and device.type == "cpu" else None

    @torch.inference_mode()
    def sample(
        self, crops: Float32[Tensor, "b 4 256 256"], vertices: Float32[Tensor, "b num_vertices 3"]
    ) -> Float32[Tensor, "b 4 rows columns"]:
        """PHALP's `uv` of each person: three colours (zero where unseen) and a mask of -1 and 1.

        Args:
            crops: normalised R, G, B and a mask that is above zero on the person.
            vertices: metres, camera frame of the crop (HMR2's vertices moved by its crop translation).
        """
        return self.unwrap(self.look(crops, vertices))

    def look(
        self, crops: Float32[Tensor, "b 4 256 256"], vertices: Float32[Tensor, "b v 3"]
    ) -> SampledTexels:
        """The crop and the depth map where each texel's surface point is seen; arguments as for `sample`."""
        # One corner after the other: all three at once are too much for a cache, and take four times as long.
        points = vertices.new_zeros((len(vertices), self.num_texels, 3))
        for corner, weight in zip(self._texel_vertices, self._texel_weights, strict=True):
            points += vertices.index_select(1, corner) * weight
        grid = points[..., :2] / points[..., 2:] * GRID_SCALE
        depth = depth_maps(vertices, self._faces, fill=self._fill)
        return look_up(crops, depth, grid, points[..., 2])

    def unwrap(self, texels: SampledTexels) -> Float32[Tensor, "b 4 rows columns"]:
        """Lays sampled texels out as PHALP's `uv`."""
        shown = (texels.mask > 0) & texels.visible
        colours = torch.where(shown[:, None], texels.colours / COLOUR_DIVISOR, 0)
        textures = colours.new_zeros((len(shown), 4, prod(self._map_shape)))
        textures[:, 3] = -1
        textures[:, :3].index_copy_(2, self._texels, colours)
        textures[:, 3].index_copy_(1, self._texels, torch.where(shown, 1.0, -1.0))
        return textures.view(-1, 4, *self._map_shape)


def look_up(
    crops: Float32[Tensor, "b 4 256 256"],
    depth: Float32[Tensor, "b 256 256"],
    grid: Float32[Tensor, "b n 2"],
    texel_depth: Float32[Tensor, "b n"],
) -> SampledTexels:
    """Reads crop and depth map bilinearly at the texels' places; outside the crop everything is 0.

    `grid` has these places: x right, y down, the crop's borders at -1 and 1. Depths are camera z, metres.
    """
    layers = torch.cat([crops, depth[:, None]], dim=1)
    found = grid_sample(layers, grid[:, None], mode="bilinear", padding_mode="zeros", align_corners=False)
    colours, mask, surface_depth = found[:, :3, 0], found[:, 3, 0], found[:, 4, 0]
    return SampledTexels(
        colours=colours,
        mask=mask,
        surface_depth=surface_depth,
        visible=texel_depth <= surface_depth + VISIBILITY_SLACK,
    )
