"""The bodies of a tracked frame in front of the full image's camera.

Measured people stand as HMR2 saw them. Lost people stand as the tracker expects them: pose and shape from the
pose predictor, place from the location regression (PHALP's own two predictions), their box carried along.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from handler.camera import Intrinsics, canvas_to_pixels, full_image_translation
from handler.records import BETAS, CAM_T, DEPTH, ORIGIN, ROTATIONS, FrameInfo, TrackedFrame, TrackedPeople
from model_cache.interfaces import BodyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """n bodies, in the order of the frame's people.

    Attributes:
        rotations: root rotation in the camera frame, then 23 relative to the parent joint.
        betas: shape.
        transl: SMPL's translation in the camera frame, metres.
        joints: SMPL's own 24 joints without translation, metres; of lost people only if they were asked for.
        bbox_xyxy: pixels of the upright frame.
    """

    rotations: Float32[ndarray, "n 24 3 3"]
    betas: Float32[ndarray, "n 10"]
    transl: Float32[ndarray, "n 3"]
    joints: Float32[ndarray, "n 24 3"]
    bbox_xyxy: Float32[ndarray, "n 4"]


def bodies_of(frame: TrackedFrame, body: BodyModel, intrinsics: Intrinsics, *, joints: bool = True) -> Bodies:
    """The bodies of a frame's people.

    Args:
        frame: what the tracker gave.
        body: gives the joints of lost people, which nobody has measured.
        intrinsics: the full image's camera.
        joints: whether the joints are needed.
    """
    people, info = frame.people, frame.info
    rotations = people.poses[:, ROTATIONS].reshape(len(people), 24, 3, 3)
    betas = people.poses[:, BETAS]
    points, boxes = people.smpl_joints_3d, people.bbox_xyxy
    lost = np.flatnonzero(~people.measured)
    if len(lost):
        boxes = boxes.copy()
        boxes[lost] = _moved_boxes(people.take(lost), info)
        if joints:
            points = points.copy()
            _, points[lost] = body.joints(rotations[lost, :1], rotations[lost, 1:], betas[lost])
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused when it is written
        transl = full_image_translation(people.locations[:, CAM_T], info.width, info.height, intrinsics)
    return Bodies(rotations=rotations, betas=betas, transl=transl, joints=points, bbox_xyxy=boxes)


def _moved_boxes(lost: TrackedPeople, info: FrameInfo) -> Float32[ndarray, "n 4"]:
    """The last measured boxes, moved with the body's origin and scaled as the depth changed."""
    before = canvas_to_pixels(lost.joints_2d[:, -1], info.width, info.height)[:, None]
    now = canvas_to_pixels(lost.locations[:, ORIGIN], info.width, info.height)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # as above
        scale = (lost.cam_t[:, 2] / lost.locations[:, DEPTH])[:, None, None]
    corners = lost.bbox_xyxy.reshape(-1, 2, 2)
    moved: Float32[ndarray, "n 4"] = (now + (corners - before) * scale).astype(np.float32).reshape(-1, 4)
    return moved
