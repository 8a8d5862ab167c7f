"""A tracked frame as one JSON line. Knows nothing of files, schemas or videos.

`frame_document.py` describes what comes out. Nothing is validated here but that every number is finite.
"""

from typing import Any

import numpy as np
import orjson
from jaxtyping import Float32
from numpy import ndarray

from handler.camera import Intrinsics, project
from handler.errors import ComputeError
from handler.job import Profile
from handler.records import Person, TrackedFrame, TrackedPerson
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
    line: dict[str, Any] = {
        "frame": frame.frame_index,
        "source_frame": frame.source_index,
        "time_s": round(frame.pts_seconds, DECIMALS_SECONDS),
        "pts": frame.pts,
        "shot": int(frame.shot),
    }
    if frame.is_corrupt:
        line["corrupt"] = True
    if first_size not in (None, (frame.width, frame.height)):
        line["size"] = (frame.width, frame.height)
    line["people"] = _people(frame, bodies, intrinsics, profile, masks=masks) if frame.people else ()
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _people(
    frame: TrackedFrame, bodies: Bodies, intrinsics: Intrinsics, profile: Profile, *, masks: bool
) -> list[dict[str, Any]]:
    columns = _columns(bodies, intrinsics, profile)
    if profile == "full":
        phalp = _phalp_columns([tracked.person for tracked in frame.people])
        _require_finite(frame, columns | phalp)
    else:
        _require_finite(frame, columns)
        columns = {name: _rounded(name, column) for name, column in columns.items()}
    people = []
    for i, tracked in enumerate(frame.people):
        measured = tracked.state == "tracked"
        record: dict[str, Any] = {
            "track_id": tracked.track_id,
            "state": tracked.state,
            "score": round(tracked.person.score, DECIMALS) if measured else None,
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
            record["phalp"] = _phalp(frame, tracked) | {name: phalp[name][i] for name in phalp}
            if masks and measured and tracked.person.mask_rle is not None:
                record["mask"] = {"size": (frame.height, frame.width), "counts": tracked.person.mask_rle}
        people.append(record)
    return people


def _columns(bodies: Bodies, intrinsics: Intrinsics, profile: Profile) -> Columns:
    num = len(bodies.transl)
    rotations = bodies.rotations if profile == "full" else axis_angle(bodies.rotations)
    flat = rotations.reshape(num, -1)
    root = flat.shape[1] // 24
    columns = {
        "bbox_xyxy": bodies.bbox_xyxy,
        "global_orient": np.ascontiguousarray(flat[:, :root]),
        "body_pose": np.ascontiguousarray(flat[:, root:]),
        "betas": bodies.betas,
        "transl": bodies.transl,
    }
    if profile != "params":
        joints = bodies.joints + bodies.transl[:, None]
        columns["joints_3d"] = joints.reshape(num, 72)
        with np.errstate(divide="ignore", invalid="ignore"):  # `_require_finite` says it in words
            columns["joints_2d"] = project(joints, intrinsics).reshape(num, 48)
    return columns


def _phalp_columns(people: list[Person]) -> Columns:
    """What PHALP records, under its names; of a lost person the last measurement, as in PHALP."""
    num = len(people)
    boxes = np.array([person.bbox_xyxy for person in people])
    return {
        "bbox": np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        "center": np.array([person.center_px for person in people]),
        "camera": np.array([person.cam_t for person in people]),
        "camera_bbox": np.array([person.crop_cam for person in people]),
        "3d_joints": np.array([person.joints_3d for person in people]).reshape(num, 135),
        "2d_joints": np.array([person.joints_2d for person in people]).reshape(num, 90),
    }


def _phalp(frame: TrackedFrame, tracked: TrackedPerson) -> dict[str, Any]:
    person = tracked.person
    return {
        "tracked_time": tracked.frames_since_seen,
        "size": (frame.height, frame.width),
        "scale": person.scale_px / max(frame.width, frame.height),
        "conf": person.score,
        "extra_data": person.detection_index,
    }


def _require_finite(frame: TrackedFrame, columns: Columns) -> None:
    scalars = [(tracked.person.score, tracked.person.scale_px) for tracked in frame.people]
    if np.isfinite(scalars).all() and all(np.isfinite(column).all() for column in columns.values()):
        return
    raise ComputeError(
        "MODEL_OUTPUT_INVALID",
        f"a model gave numbers that are not finite in frame {frame.frame_index}",
        stage="write",
    )


def _rounded(name: str, column: Float32[ndarray, "n _"]) -> Float32[ndarray, "n _"]:
    # Adding 0 turns -0.0 into 0.0, two characters shorter and less puzzling.
    return np.round(column, DECIMALS_PX if name in PIXELS else DECIMALS) + np.float32(0)
