"""A tracked frame as one JSON line.

`document.FrameRecord` describes what comes out. Nothing is validated here but that every number is finite.
"""

from typing import Any

import numpy as np
import orjson
from jaxtyping import Float32
from numpy import ndarray

from handler.camera import Intrinsics, project
from handler.errors import ComputeError, ErrorCode
from handler.job import Profile
from handler.records import TrackedFrame, TrackedPeople, phalp_joints_3d
from handler.results.bodies import Bodies
from handler.results.rotations import axis_angle

DECIMALS = 4  # radians, metres, shape
DECIMALS_PX = 1
DECIMALS_SECONDS = 6
PIXELS = {"bbox_xyxy", "joints_2d"}

Columns = dict[str, Float32[ndarray, "n _"]]  # one row a person


def frame_line(
    frame: TrackedFrame,
    bodies: Bodies,
    intrinsics: Intrinsics,
    *,
    profile: Profile,
    masks: bool = False,
    first_size: tuple[int, int] | None = None,
) -> bytes:
    """The frame's line, with its newline.

    Rounded to 4 decimals (rad, m) and 1 decimal (px), but not in the profile `full`, which keeps every bit of
    the models' float32.

    Args:
        frame: what the tracker gave.
        bodies: its people's bodies in front of the camera, in the same order.
        intrinsics: that camera.
        profile: how much to write.
        masks: write each measured person's mask (profile `full` only).
        first_size: (width, height) of the first frame; a frame of another size says its own.

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
    line["people"] = _people(frame, bodies, intrinsics, profile, masks=masks) if len(frame.people) else ()
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _people(
    frame: TrackedFrame, bodies: Bodies, intrinsics: Intrinsics, profile: Profile, *, masks: bool
) -> list[dict[str, Any]]:
    people, size = frame.people, (frame.info.height, frame.info.width)
    columns = _columns(bodies, intrinsics, profile)
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
            "smpl": {
                "global_orient": columns["global_orient"][i],
                "body_pose": columns["body_pose"][i],
                "betas": columns["betas"][i],
                "transl": columns["transl"][i],
            },
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


def _columns(bodies: Bodies, intrinsics: Intrinsics, profile: Profile) -> Columns:
    num = len(bodies.transl)
    rotations = bodies.rotations if profile == "full" else axis_angle(bodies.rotations)
    flat = rotations.reshape(num, -1)
    root = flat.shape[1] // 24
    columns = {
        "bbox_xyxy": bodies.bbox_xyxy,
        "global_orient": flat[:, :root],
        "body_pose": flat[:, root:],
        "betas": bodies.betas,
        "transl": bodies.transl,
    }
    if profile != "params":
        joints = bodies.joints + bodies.transl[:, None]
        columns["joints_3d"] = joints.reshape(num, 72)
        with np.errstate(divide="ignore", invalid="ignore"):  # `_require_finite` says it in words
            columns["joints_2d"] = project(joints, intrinsics).reshape(num, 48)
    return columns


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
    if all(np.isfinite(column).all() for column in checked):
        return
    raise ComputeError(
        ErrorCode.MODEL_OUTPUT_INVALID,
        f"a model gave numbers that are not finite in frame {frame.info.frame_index}",
        stage="write",
    )


def _rounded(name: str, column: Float32[ndarray, "n _"]) -> Float32[ndarray, "n _"]:
    # Adding 0 turns -0.0 into 0.0, two characters shorter and less puzzling.
    return np.round(column, DECIMALS_PX if name in PIXELS else DECIMALS) + np.float32(0)
