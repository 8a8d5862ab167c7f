"""Scores of found people against true ones. Knows nothing of models, clips or tables."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from scipy.optimize import linear_sum_assignment


def mask_iou(first: Bool[ndarray, "n h w"], second: Bool[ndarray, "m h w"]) -> Float64[ndarray, "n m"]:
    """Intersection over union of every pair of masks."""
    a, b = (
        first.reshape(len(first), -1).astype(np.float32),
        second.reshape(len(second), -1).astype(np.float32),
    )
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


def root_aligned(
    points: Float[ndarray, "... j 3"], root: Float[ndarray, "... 3"]
) -> Float[ndarray, "... j 3"]:
    """Points relative to a root."""
    return points - root[..., None, :]


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


def idf1(pairs: Sequence[tuple[int, int]], num_true: int, num_found: int) -> float:
    """Identity F1 (Ristani et al. 2016): matches kept when each identity gets one track for the clip.

    Args:
        pairs: (true identity, track) of each matched box of the clip.
        num_true: true boxes in all frames.
        num_found: found boxes in all frames.
    """
    counts = Counter(pairs)
    true_ids, tracks = sorted({t for t, _ in counts}), sorted({f for _, f in counts})
    table = np.array([[counts[t, f] for f in tracks] for t in true_ids]).reshape(len(true_ids), len(tracks))
    rows, columns = linear_sum_assignment(-table)
    return float(2 * table[rows, columns].sum() / max(num_true + num_found, 1))


def identity_switches(tracks_in_time: Sequence[int]) -> int:
    """How often a person's track differs from the last one the person had."""
    return sum(a != b for a, b in pairwise(tracks_in_time))
