"""PHALP's joints, and the vectors in which it compares people: their layout and how they are made."""

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from handler.records import PlacedPeople
from model_cache.interfaces import People

# Pose vector (PHALP's `pose`): rotation matrices row-major, root first; shape; `cam_t`, its depth divided.
POSE_SIZE = 229
ROTATIONS, BETAS, POSE_CAMERA = slice(0, 216), slice(216, 226), slice(226, 229)
POSE_DEPTH_DIVISOR = 200

# Location vector (PHALP's `loca`): 45 joints on the canvas, the body's origin last; `cam_t`, three times.
# In an expected one the second `cam_t` holds half widths of prediction intervals instead.
LOCATION_SIZE = 99
JOINTS_2D, CAMERAS = slice(0, 90), slice(90, 99)
ORIGIN, CAM_T = slice(88, 90), slice(90, 93)
ORIGIN_X, ORIGIN_Y, DEPTH = 88, 89, 92
INTERVALS = slice(93, 96)  # of the origin's x and y, and of the depth as a factor


def pose_vectors(people: PlacedPeople) -> Float32[ndarray, "n 229"]:
    """The people's pose vectors."""
    num = len(people)
    vectors = np.empty((num, POSE_SIZE), np.float32)
    vectors[:, ROTATIONS] = people.rotations.reshape(num, 216)
    vectors[:, BETAS] = people.betas
    vectors[:, POSE_CAMERA] = people.cam_t
    vectors[:, -1] /= POSE_DEPTH_DIVISOR
    return vectors


def location_vectors(people: PlacedPeople) -> Float32[ndarray, "n 99"]:
    """The people's location vectors."""
    num = len(people)
    vectors = np.empty((num, LOCATION_SIZE), np.float32)
    vectors[:, JOINTS_2D] = people.joints_2d.reshape(num, 90)
    vectors[:, CAMERAS] = np.concatenate([people.cam_t] * 3, axis=1)
    return vectors


def phalp_joints_3d(people: People) -> Float32[ndarray, "n 45 3"]:
    """PHALP's 45 joints: 44 of HMR2 and the body's origin, metres, without translation."""
    return np.concatenate([people.joints_3d, np.zeros((len(people), 1, 3), np.float32)], axis=1)
