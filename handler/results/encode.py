"""A tracked frame as one JSON line.

`document.FrameRecord` describes what comes out. Nothing is validated here but that every number is finite.
"""

from typing import Any

import numpy as np
import orjson
from jaxtyping import Float32
from numpy import ndarray
from scipy.spatial.transform import Rotation

from handler.camera import Intrinsics, canvas_to_pixels, full_image_translation, project
from handler.errors import ComputeError, ErrorCode
from handler.job import Profile
from handler.records import (
    BETAS,
    CAM_T,
    DEPTH,
    ORIGIN,
    ROTATIONS,
    FrameInfo,
    TrackedFrame,
    TrackedPeople,
    phalp_joints_3d,
)
from model_cache.interfaces import BodyModel

DECIMALS = 4  # radians, metres, shape
DECIMALS_PX = 1
DECIMALS_SECONDS = 6
PIXELS = {"bbox_xyxy", "joints_2d"}
ORTHONORMAL_TOLERANCE = 1e-4  # float32 networks are within 1e-6; a broken one is not

Columns = dict[str, Float32[ndarray, "n _"]]  # one row a person


def frame_line(
    frame: TrackedFrame,
    body: BodyModel,
    intrinsics: Intrinsics,
    *,
    profile: Profile,
    masks: bool = False,
    first_size: tuple[int, int] | None = None,
) -> bytes:
    """The frame's line, with its newline.

    Measured people stand as HMR2 saw them. Lost people stand as the tracker expects them: pose and shape from
    the pose predictor, place from the location regression (PHALP's own two predictions), their box carried
    along, their joints from the body model. Numbers are rounded to 4 decimals (rad, m) and 1 decimal (px);
    only the profile `full` keeps every bit of the models' float32, and may hold the masks of measured people.
    A frame whose size is not `first_size` (width, height) says its own.

    Raises:
        ComputeError: MODEL_OUTPUT_INVALID, a number is not finite or a matrix is not a rotation.
    """
    info = frame.info
    line: dict[str, Any] = {
        "frame": info.frame_index,
        "source_frame": info.source_index,
        "time_s": round(info.pts_seconds, DECIMALS_SECONDS),
        "pts": info.pts,
        "shot": int(info.shot),
    }
    if info.is_corrupt:
        line["corrupt"] = True
    if first_size not in (None, (info.width, info.height)):
        line["size"] = (info.width, info.height)
    line["people"] = _people(frame, body, intrinsics, profile, masks=masks) if len(frame.people) else ()
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _people(
    frame: TrackedFrame, body: BodyModel, intrinsics: Intrinsics, profile: Profile, *, masks: bool
) -> list[dict[str, Any]]:
    people, size = frame.people, (frame.info.height, frame.info.width)
    columns = _columns(frame, body, intrinsics, profile)
    phalp = _phalp_columns(people) if profile == "full" else {}
    _require_finite(frame, columns | phalp)
    if profile != "full":
        columns = {name: _rounded(name, column) for name, column in columns.items()}
    scores, ages = people.scores.tolist(), people.frames_since_seen.tolist()
    records = []
    for i, track_id in enumerate(people.track_ids.tolist()):
        measured = ages[i] == 0
        record: dict[str, Any] = {
            "track_id": track_id,
            "state": "tracked" if measured else "predicted",
            "score": round(scores[i], DECIMALS) if measured else None,
            "bbox_xyxy": columns["bbox_xyxy"][i],
            "smpl": {name: columns[name][i] for name in ("global_orient", "body_pose", "betas", "transl")},
        }
        if profile != "params":
            record["joints_3d"] = columns["joints_3d"][i]
            record["joints_2d"] = columns["joints_2d"][i]
        if profile == "full":
            record["phalp"] = {
                "tracked_time": ages[i],
                "size": size,
                "scale": float(people.scale_px[i]) / max(size),
                "conf": scores[i],
                "extra_data": int(people.detection_index[i]),
            } | {name: column[i] for name, column in phalp.items()}
            if masks and measured and people.mask_rle is not None:
                record["mask"] = {"size": size, "counts": people.mask_rle[i]}
        records.append(record)
    return records


def _columns(frame: TrackedFrame, body: BodyModel, intrinsics: Intrinsics, profile: Profile) -> Columns:
    """The people's numbers in front of the full image's camera."""
    people, info, num = frame.people, frame.info, len(frame.people)
    lost = np.flatnonzero(~people.measured)
    matrices = people.poses[:, ROTATIONS].reshape(num, 24, 3, 3)
    rotations = (matrices if profile == "full" else axis_angle(matrices)).reshape(num, 24, -1)
    betas = people.poses[:, BETAS]
    boxes = people.bbox_xyxy.copy()
    if len(lost):
        boxes[lost] = _moved_boxes(people.take(lost), info)
    with np.errstate(divide="ignore", invalid="ignore"):  # `_require_finite` raises a readable error
        transl = full_image_translation(people.locations[:, CAM_T], info.width, info.height, intrinsics)
    columns = {
        "bbox_xyxy": boxes,
        "global_orient": rotations[:, 0],
        "body_pose": rotations[:, 1:].reshape(num, -1),
        "betas": betas,
        "transl": transl,
    }
    if profile != "params":
        joints = people.smpl_joints_3d.copy()
        if len(lost):
            _, joints[lost] = body.joints(matrices[lost, :1], matrices[lost, 1:], betas[lost])
        joints += transl[:, None]
        columns["joints_3d"] = joints.reshape(num, 72)
        with np.errstate(divide="ignore", invalid="ignore"):  # as above
            columns["joints_2d"] = project(joints, intrinsics).reshape(num, 48)
    return columns


def axis_angle(matrices: Float32[ndarray, "*batch 3 3"]) -> Float32[ndarray, "*batch 3"]:
    """The rotation vectors of one or more matrices, radians, angle 0 to pi; stable at both ends.

    Raises:
        ComputeError: MODEL_OUTPUT_INVALID, a matrix is not a rotation.
    """
    flat = matrices.reshape(-1, 3, 3)
    # Orthogonalising every matrix would cost ten times as much; instead only what survives the round trip is
    # accepted, which no matrix but a rotation does.
    rotation = Rotation.from_matrix(flat, assume_valid=True)
    with np.errstate(invalid="ignore"):
        gap = np.abs(rotation.as_matrix() - flat).max()
    if not gap < ORTHONORMAL_TOLERANCE:  # a NaN must not pass
        raise ComputeError(
            ErrorCode.MODEL_OUTPUT_INVALID, "a model gave a matrix that is not a rotation", stage="write"
        )
    return rotation.as_rotvec().astype(np.float32).reshape(matrices.shape[:-1])


def _moved_boxes(lost: TrackedPeople, info: FrameInfo) -> Float32[ndarray, "n 4"]:
    """The last measured boxes, moved with the body's origin and scaled as the depth changed."""
    before = canvas_to_pixels(lost.joints_2d[:, -1], info.width, info.height)[:, None]
    now = canvas_to_pixels(lost.locations[:, ORIGIN], info.width, info.height)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # as above
        scale = (lost.cam_t[:, 2] / lost.locations[:, DEPTH])[:, None, None]
    corners = lost.bbox_xyxy.reshape(-1, 2, 2)
    moved: Float32[ndarray, "n 4"] = (now + (corners - before) * scale).astype(np.float32).reshape(-1, 4)
    return moved


def _phalp_columns(people: TrackedPeople) -> Columns:
    """What PHALP records, under its names; of a lost person the last measurement, as in PHALP."""
    num, boxes = len(people), people.bbox_xyxy
    return {
        "bbox": np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        "center": people.center_px,
        "camera": people.cam_t,
        "camera_bbox": people.crop_cam,
        "3d_joints": phalp_joints_3d(people).reshape(num, 135),
        "2d_joints": people.joints_2d.reshape(num, 90),
    }


def _require_finite(frame: TrackedFrame, columns: Columns) -> None:
    checked = (frame.people.scores, frame.people.scale_px, *columns.values())
    if not all(np.isfinite(column).all() for column in checked):
        raise ComputeError(
            ErrorCode.MODEL_OUTPUT_INVALID,
            f"a model gave numbers that are not finite in frame {frame.info.frame_index}",
            stage="write",
        )


def _rounded(name: str, column: Float32[ndarray, "n _"]) -> Float32[ndarray, "n _"]:
    # Adding 0 turns -0.0 into 0.0, two characters shorter and less puzzling.
    return np.round(column, DECIMALS_PX if name in PIXELS else DECIMALS) + np.float32(0)
