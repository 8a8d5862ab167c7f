"""Where in a BlazePose crop the person can be, given the landmarks.

BlazePose's mask runs over into whoever stands close by; the landmarks stay with one person.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Float32
from numpy import ndarray

from model_cache.lite.blazepose import INPUT_SIZE
from model_cache.lite.pixel_owners import stroke

# Half widths in torso lengths: generous, since clothes and hair are wider than bones.
LIMB, THIGH, TRUNK, HEAD, END = 0.24, 0.34, 0.32, 0.48, 0.3
NOSE, EARS, SHOULDERS, HIPS, KNEES = 0, (7, 8), (11, 12), (23, 24), (25, 26)
THIGHS = ((23, 25), (24, 26))
LIMBS = ((11, 13), (13, 15), (15, 19), (12, 14), (14, 16), (16, 20), (25, 27), (27, 31), (27, 29),
         (26, 28), (28, 32), (28, 30))  # fmt: skip
ENDS = (19, 20, 31, 32)  # hands and feet
SMALLEST_TORSO = 0.16  # of the body's extent, for people bent towards the camera


def body_zone(landmarks: Float32[ndarray, "33 5"]) -> Bool[ndarray, "256 256"]:
    """Pixels within reach of the limbs, the trunk and the head."""
    points = landmarks[:, :2].astype(np.float64)
    shoulders, hips = points[list(SHOULDERS)], points[list(HIPS)]
    torso = float(np.linalg.norm(shoulders.mean(0) - hips.mean(0)))
    torso = max(torso, SMALLEST_TORSO * float(np.ptp(points, axis=0).max()), 4.0)
    zone = np.zeros((INPUT_SIZE, INPUT_SIZE), np.uint8)
    for segments, width in ((LIMBS, LIMB), (THIGHS, THIGH)):
        for a, b in segments:
            stroke(zone, points[a], points[b], 2 * width * torso)
    corners = np.round(np.concatenate([shoulders, hips[::-1]])).astype(np.int32)
    cv2.fillConvexPoly(zone, cv2.convexHull(corners), 1)
    for a, b in ((11, 12), (12, 24), (24, 23), (23, 11)):
        stroke(zone, points[a], points[b], 2 * TRUNK * torso)
    lap = np.round(np.concatenate([hips, points[list(KNEES)]])).astype(np.int32)
    cv2.fillConvexPoly(zone, cv2.convexHull(lap), 1)  # a skirt spans the legs
    head = (points[list(EARS)].mean(0) + points[NOSE]) / 2
    stroke(zone, head, head, 2 * HEAD * torso)
    stroke(zone, shoulders.mean(0), head, 2 * LIMB * torso)
    for end in ENDS:
        stroke(zone, points[end], points[end], 2 * END * torso)
    return zone > 0
