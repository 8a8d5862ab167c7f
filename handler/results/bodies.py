"""The bodies of a tracked frame in front of the full image's camera. Knows nothing of files or JSON.

Measured people stand as HMR2 saw them. Lost people stand as the tracker expects them: pose and shape from the
pose predictor, place from the location regression (PHALP's own two predictions), their box carried along.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from handler.camera import Intrinsics, canvas_offset_px, full_image_translation
from handler.records import Prediction, TrackedFrame, TrackedPerson
from model_cache.interfaces import BodyModel

LOCATION_XY = slice(88, 90)  # the body origin on the canvas, 0 to 1 (PHALP's `loca`)
LOCATION_CAMERA = slice(90, 93)  # `cam_t`


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """n bodies, in the order of the frame's people.

    Attributes:
        rotations: root rotation in the camera frame, then 23 relative to the parent joint.
        betas: shape.
        transl: SMPL's translation in the camera frame, metres.
        joints: SMPL's own 24 joints without translation, metres; zeros if they were not asked for.
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
    num = len(frame.people)
    rotations = np.empty((num, 24, 3, 3), np.float32)
    betas = np.empty((num, 10), np.float32)
    cam_t = np.empty((num, 3), np.float32)
    points = np.zeros((num, 24, 3), np.float32)
    boxes = np.empty((num, 4), np.float32)
    lost = []
    for i, tracked in enumerate(frame.people):
        prediction = tracked.prediction
        if tracked.state == "tracked" or prediction is None:
            person = tracked.person
            rotations[i, :1] = person.global_orient
            rotations[i, 1:] = person.body_pose
            betas[i] = person.betas
            cam_t[i] = person.cam_t
            points[i] = person.smpl_joints_3d
            boxes[i] = person.bbox_xyxy
        else:
            lost.append(i)
            rotations[i] = prediction.pose_vector[:216].reshape(24, 3, 3)
            betas[i] = prediction.pose_vector[216:226]
            cam_t[i] = prediction.location_vector[LOCATION_CAMERA]
            boxes[i] = _moved_box(tracked, prediction, frame.width, frame.height)
    if lost and joints:
        _, points[lost] = body.joints(rotations[lost, :1], rotations[lost, 1:], betas[lost])
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is refused when it is written
        transl = full_image_translation(cam_t, frame.width, frame.height, intrinsics)
    return Bodies(rotations=rotations, betas=betas, transl=transl, joints=points, bbox_xyxy=boxes)


def _moved_box(
    tracked: TrackedPerson, prediction: Prediction, width: int, height: int
) -> Float32[ndarray, "4"]:
    """The last measured box, moved with the body's origin and scaled as the depth changed."""
    side = np.float32(max(width, height))
    offset = np.array(canvas_offset_px(width, height), np.float32)
    before = tracked.person.joints_2d[44] * side - offset
    now = prediction.location_vector[LOCATION_XY] * side - offset
    with np.errstate(divide="ignore", invalid="ignore"):  # as above
        scale = tracked.person.cam_t[2] / prediction.location_vector[LOCATION_CAMERA][2]
    corners = tracked.person.bbox_xyxy.reshape(2, 2)
    moved: Float32[ndarray, "4"] = (now + (corners - before) * scale).astype(np.float32).reshape(4)
    return moved
