"""Overlaps, pairs, alignments and distances."""

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation


def mask_iou(first: Bool[ndarray, "n h w"], second: Bool[ndarray, "m h w"]) -> Float64[ndarray, "n m"]:
    """Intersection over union of every pair of masks."""
    num_pixels = int(np.prod(first.shape[1:]))
    a, b = (masks.reshape(len(masks), num_pixels).astype(np.float32) for masks in (first, second))
    both = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - both
    return (both / np.maximum(union, 1)).astype(np.float64)


def box_iou(first: Float[ndarray, "n 4"], second: Float[ndarray, "m 4"]) -> Float64[ndarray, "n m"]:
    """Intersection over union of every pair of boxes x1, y1, x2, y2."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return np.asarray(both / np.maximum(area[0][:, None] + area[1][None] - both, 1e-9), np.float64)


def match(similarity: Float64[ndarray, "n m"], floor: float) -> list[tuple[int, int]]:
    """One-to-one pairs of the largest total similarity, those above the floor."""
    rows, columns = linear_sum_assignment(-similarity)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if similarity[r, c] > floor]


def procrustes(points: Float[ndarray, "j 3"], onto: Float[ndarray, "j 3"]) -> Float64[ndarray, "j 3"]:
    """`points` after the similarity (rotation, scale, shift) that brings them nearest to `onto`."""
    mean, target = points.mean(0), onto.mean(0)
    a, b = points - mean, onto - target
    u, s, vt = np.linalg.svd(a.T @ b)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (s * signs).sum() / (a**2).sum()
    return np.asarray(scale * a @ (u * signs) @ vt + target, np.float64)


def mean_distance(points: Float[ndarray, "j 3"], truth: Float[ndarray, "j 3"]) -> float:
    """Mean distance of corresponding points."""
    return float(np.linalg.norm(points - truth, axis=-1).mean())


def acceleration(points: Float[ndarray, "3 j 3"], seconds: Float[ndarray, "3"]) -> Float64[ndarray, "j 3"]:
    """Acceleration of points at the middle one of three times, by finite differences.

    Kanazawa et al. 2019 (HMMR) and Kocabas et al. 2020 (VIBE) give its error per frame squared and call it
    mm/s²; here it is per second squared, so that clips of any rate compare.
    """
    before, after = np.diff(np.asarray(seconds, np.float64))
    first, second = (points[1] - points[0]) / before, (points[2] - points[1]) / after
    return np.asarray((second - first) / ((before + after) / 2), np.float64)


def turned_to_axis(ray: Float[ndarray, "3"]) -> Float64[ndarray, "3 3"]:
    """The smallest rotation that brings a viewing ray to the optical axis."""
    axis = np.cross(ray, [0.0, 0.0, 1.0])
    sine = float(np.linalg.norm(axis))
    angle = np.arctan2(sine, float(ray[2]))
    return Rotation.from_rotvec(axis / sine * angle if sine > 0 else axis).as_matrix()
