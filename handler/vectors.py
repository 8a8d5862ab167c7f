"""Measured people as records, and as the vectors PHALP compares. Knows nothing of tracks or models."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from handler.camera import canvas_translation, project_to_canvas
from handler.records import Person
from model_cache.interfaces import PeopleInImage

POSE_DEPTH_DIVISOR = 200  # PHALP divides the camera's z by this in the pose vector


def people_from_image(image: PeopleInImage, width: int, height: int) -> tuple[Person, ...]:
    """The people of one image with their cameras on PHALP's canvas, in detector order.

    Args:
        image: what perception found.
        width: of the upright frame, pixels.
        height: of the upright frame, pixels.
    """
    top_left, bottom_right = image.bbox_padded_xyxy[:, :2], image.bbox_padded_xyxy[:, 2:]
    center = (top_left + bottom_right) / 2
    scale = (bottom_right - top_left).max(axis=1, initial=0)
    cam_t = canvas_translation(image.crop_cam, center, scale, width, height)
    origin = np.zeros((len(cam_t), 1, 3), np.float32)  # PHALP's 45th joint
    joints_3d = np.concatenate([image.joints_3d, origin], axis=1)
    joints_2d = project_to_canvas(joints_3d, cam_t)
    return tuple(
        Person(
            detection_index=int(image.detection_index[i]),
            bbox_xyxy=image.bbox_xyxy[i],
            score=float(image.scores[i]),
            global_orient=image.global_orient[i],
            body_pose=image.body_pose[i],
            betas=image.betas[i],
            crop_cam=image.crop_cam[i],
            center_px=center[i],
            scale_px=float(scale[i]),
            cam_t=cam_t[i],
            joints_3d=joints_3d[i],
            joints_2d=joints_2d[i],
            smpl_joints_3d=image.smpl_joints_3d[i],
            texture=image.textures[i],
            mask_rle=None if image.mask_rle is None else image.mask_rle[i],
            appearance=None if image.appearance is None else image.appearance[i],
        )
        for i in range(len(cam_t))
    )


def without_texture(person: Person) -> Person:
    """The same person, holding no device memory."""
    return replace(person, texture=None)


def pose_vectors(people: Sequence[Person]) -> Float32[ndarray, "n 229"]:
    """PHALP's pose vectors: rotations row-major 9 + 207, betas 10, `cam_t` with z / 200."""
    num = len(people)
    vectors = np.empty((num, 229), np.float32)
    if num:
        vectors[:, :9] = np.concatenate([person.global_orient for person in people]).reshape(num, 9)
        vectors[:, 9:216] = np.concatenate([person.body_pose for person in people]).reshape(num, 207)
        vectors[:, 216:226] = np.concatenate([person.betas for person in people]).reshape(num, 10)
        vectors[:, 226:] = np.concatenate([person.cam_t for person in people]).reshape(num, 3)
        vectors[:, 228] /= POSE_DEPTH_DIVISOR
    return vectors


def location_vectors(people: Sequence[Person]) -> Float32[ndarray, "n 99"]:
    """PHALP's location vectors (`loca`): 45 canvas joints 0 to 1 (90), then `cam_t` three times."""
    num = len(people)
    vectors = np.empty((num, 99), np.float32)
    if num:
        vectors[:, :90] = np.concatenate([person.joints_2d for person in people]).reshape(num, 90)
        cam_t = np.concatenate([person.cam_t for person in people]).reshape(num, 1, 3)
        vectors[:, 90:].reshape(num, 3, 3)[:] = cam_t
    return vectors
