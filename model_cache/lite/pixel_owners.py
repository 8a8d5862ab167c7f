"""Which person a pixel belongs to where people stand close together, by their key points."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8
from numpy import ndarray

SURE_KEYPOINT = 0.1
GRID_SIDE = 320  # cells of the longer side, at least
REACH = 0.3  # torso lengths around the bones that clothes and hair still fill
# Half widths in torso lengths: half of what a body fills, so that bones decide and not what surrounds them.
LIMB, LEG, NECK, TRUNK, HEAD = 0.1, 0.14, 0.1, 0.15, 0.21
FACE, SHOULDERS, HIPS = slice(0, 5), (5, 6), (11, 12)
ARMS = ((5, 6), (5, 7), (7, 9), (6, 8), (8, 10))
LEGS = ((11, 12), (11, 13), (13, 15), (12, 14), (14, 16))
SMALLEST_TORSO = 0.16  # of the body's extent, for people bent towards the camera


def grid_step(size: tuple[int, int]) -> int:
    """Pixels per grid cell for an image of this (height, width): the grid is no finer than needed."""
    return max(1, round(max(size) / GRID_SIDE))


def distance_to(keypoints: Float32[ndarray, "17 3"], size: tuple[int, int]) -> Float32[ndarray, "r c"]:
    """How far each grid cell is from a person's bones, in torso lengths; infinite where no bone is known.

    COCO's key points are x and y in cells and a score; `size` is the grid's (rows, columns).
    """
    points, sure = keypoints[:, :2].astype(np.float64), keypoints[:, 2] > SURE_KEYPOINT
    shoulders, hips = points[list(SHOULDERS)], points[list(HIPS)]
    torso = torso_length(points, shoulders, hips)
    bones = np.zeros(size, np.uint8)
    for segments, width in ((ARMS, LIMB), (LEGS, LEG)):
        for a, b in segments:
            if sure[a] and sure[b]:
                stroke(bones, points[a], points[b], 2 * width * torso)
    if sure[[*SHOULDERS, *HIPS]].sum() >= 3:
        fill(bones, shoulders, hips)
        stroke(bones, shoulders.mean(0), hips.mean(0), 2 * TRUNK * torso)
    if sure[FACE].any():
        head = points[FACE][sure[FACE]].mean(0)
        stroke(bones, head, head, 2 * HEAD * torso)
        stroke(bones, shoulders.mean(0), head, 2 * NECK * torso)
    if not bones.any():
        return np.full(size, np.inf, np.float32)
    outside = (bones == 0).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(outside, cv2.DIST_L2, 3) / torso, np.float32)


def nearest_person(distances: Sequence[Float32[ndarray, "r c"]]) -> Int8[ndarray, "r c"]:
    """The person whose bones are nearest to each cell and within reach, -1 where there is none."""
    stacked = np.stack(distances)
    return np.where(stacked.min(0) < REACH, stacked.argmin(0), -1).astype(np.int8)


def share_out(
    masks: Sequence[Bool[ndarray, "h w"]],
    distances: Sequence[Float32[ndarray, "r c"]],
    feet: Sequence[float],
) -> list[Bool[ndarray, "h w"]]:
    """Each pixel of several masks to the person whose bones are nearest.

    On the bones of two people it is of the one whose feet (rows of the lower ankles) are lower in the image,
    who stands nearer. The grid of `distance_to` may be coarser than the masks.
    """
    if not masks or np.sum(masks, axis=0, dtype=np.uint8).max() < 2:
        return list(masks)
    size = masks[0].shape[::-1]
    from_front = np.argsort(-np.asarray(feet), kind="stable")
    resized = (cv2.resize(distances[i], size, interpolation=cv2.INTER_LINEAR) for i in from_front)
    wanted = np.stack([np.where(masks[i], d, np.inf) for i, d in zip(from_front, resized, strict=True)])
    owner = from_front[wanted.argmin(0)]
    return [mask & (owner == i) for i, mask in enumerate(masks)]


def torso_length(
    points: Float64[ndarray, "p 2"], shoulders: Float64[ndarray, "2 2"], hips: Float64[ndarray, "2 2"]
) -> float:
    """Between shoulders and hips, but at least a part of the extent of all points, and 4."""
    torso = np.linalg.norm(shoulders.mean(0) - hips.mean(0))
    return max(float(torso), SMALLEST_TORSO * float(np.ptp(points, axis=0).max()), 4.0)


def fill(canvas: ndarray, *corners: Float64[ndarray, "_ 2"]) -> None:
    """Fill the convex hull of the corners with ones."""
    cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(np.concatenate(corners)).astype(np.int32)), 1)


def stroke(canvas: ndarray, a: ndarray, b: ndarray, width: float) -> None:
    """Draw a thick line of ones."""
    start, stop = (tuple(int(v) for v in np.clip(np.round(p), -4000, 4000)) for p in (a, b))
    cv2.line(canvas, start, stop, 1, max(round(width), 1))
