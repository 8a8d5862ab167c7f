"""The video with its people drawn on it: a second pass over the frames and the written results."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import orjson
from jaxtyping import Float32, UInt8
from numpy import ndarray

from handler.camera import Intrinsics, project
from handler.context import Check, unstoppable
from handler.errors import ErrorCode, WorkerError
from handler.job import Options
from handler.records import Frame, VideoFacts
from handler.results.drawing import colour_of, draw_box, draw_label, draw_skeleton
from handler.results.painter import paint_bodies
from handler.results.rotations import rotation_matrices
from handler.results.video_writer import video_writer
from handler.results.write import intrinsics_of, read_lines
from handler.transfer.errors import disk_full_is_coded, is_disk_full
from model_cache.interfaces import BodyModel

OVERLAY_NAME = "overlay.mp4"
OPACITY_TRACKED, OPACITY_PREDICTED = 0.8, 0.4
GREY = 150  # what a lost person's colour is mixed with


def overlay(
    frames: Iterable[Frame],
    lines: Path,
    *,
    options: Options,
    facts: VideoFacts,
    body: BodyModel,
    into: Path,
    num_frames: int,
    check: Check = unstoppable,
) -> Path:
    """Draw `overlay.mp4`: mesh or skeleton, box and id of everybody, a colour per id, the video's own times.

    Args:
        frames: the very frames that were processed, decoded once more.
        lines: the written `frames.jsonl.gz`.
        options: the job's options; the style and the camera.
        facts: time base and rate.
        body: gives the meshes.
        into: an existing folder.
        num_frames: how many frames there are.
        check: called for every frame drawn and every one the encoder still holds; what it raises comes out.

    Raises:
        WorkerError: DISK_FULL.
    """
    path = into / OVERLAY_NAME
    try:
        with (
            disk_full_is_coded("overlay"),
            video_writer(
                path,
                time_base=facts.time_base,
                average_fps=facts.average_fps,
                most_pictures=num_frames,
                check=check,
            ) as pictures,
        ):
            for frame, line in zip(frames, read_lines(lines), strict=True):
                check()
                record = orjson.loads(line)
                info = frame.info
                if (record["frame"], record["pts"]) != (info.frame_index, info.pts):
                    raise RuntimeError(f"frame {info.frame_index} came out differently the second time")
                image = frame.image_bgr.copy()
                draw_people(image, record["people"], options=options, body=body)
                # The repaired time: raw timestamps may repeat or start again.
                pictures.add(image, round(info.pts_seconds / facts.time_base))
    except av.FFmpegError as error:
        if is_disk_full(error):
            raise WorkerError(ErrorCode.DISK_FULL, "the worker's disk is full", stage="overlay") from error
        raise
    return path


def draw_people(
    image_bgr: UInt8[ndarray, "h w 3"], people: list[dict[str, Any]], *, options: Options, body: BodyModel
) -> None:
    """Draw the people of one line on its frame, in place.

    Args:
        image_bgr: the upright frame.
        people: as `PersonRecord` describes them.
        options: the job's options; the style and the camera.
        body: gives meshes, and joints where the profile has none.
    """
    if not people:
        return
    height, width = image_bgr.shape[:2]
    camera = intrinsics_of(options.camera, width, height)
    lost = [person["state"] == "predicted" for person in people]
    colours = [colour_of(person["track_id"]) for person in people]
    if options.overlay_style == "mesh":
        faded = [_faded(colour) if gone else colour for colour, gone in zip(colours, lost, strict=True)]
        opacity = np.where(lost, OPACITY_PREDICTED, OPACITY_TRACKED).astype(np.float32)
        vertices = _posed(people, body.vertices)
        paint_bodies(image_bgr, vertices, body.faces, camera, np.array(faded, np.uint8), opacity)
    else:
        joints = _joints_2d(people, body, camera)
        for points, colour, gone in zip(joints, colours, lost, strict=True):
            draw_skeleton(image_bgr, points, colour, faint=gone)
    for person, colour, gone in zip(people, colours, lost, strict=True):
        box = np.array(person["bbox_xyxy"])
        draw_box(image_bgr, box, colour, dashed=gone)
        draw_label(image_bgr, box, f"{person['track_id']}{' lost' if gone else ''}", colour)


def _posed(people: list[dict[str, Any]], pose: Any) -> Float32[ndarray, "n k 3"]:
    """What `pose` gives for the people's parameters, in the camera frame."""
    orient = _matrices([person["smpl"]["global_orient"] for person in people], 1)
    joints = _matrices([person["smpl"]["body_pose"] for person in people], 23)
    betas = np.array([person["smpl"]["betas"] for person in people], np.float32)
    transl = np.array([person["smpl"]["transl"] for person in people], np.float32)
    points: Float32[ndarray, "n k 3"] = pose(orient, joints, betas) + transl[:, None]
    return points


def _matrices(numbers: list[list[float]], num_joints: int) -> Float32[ndarray, "n j 3 3"]:
    """Rotation matrices from axis-angle (3 numbers a joint) or from matrices (9)."""
    array = np.array(numbers, np.float32).reshape(len(numbers), num_joints, -1)
    if array.shape[2] == 9:
        return array.reshape(len(numbers), num_joints, 3, 3)
    return rotation_matrices(array)


def _joints_2d(
    people: list[dict[str, Any]], body: BodyModel, camera: Intrinsics
) -> Float32[ndarray, "n 24 2"]:
    if "joints_2d" in people[0]:
        return np.array([person["joints_2d"] for person in people], np.float32).reshape(-1, 24, 2)
    return project(_posed(people, lambda *pose: body.joints(*pose)[1]), camera)


def _faded(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    blue, green, red = ((channel + GREY) // 2 for channel in colour)
    return blue, green, red
