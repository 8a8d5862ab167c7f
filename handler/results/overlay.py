"""The video with its people drawn on it: a second pass over the frames and the written results."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from jaxtyping import Float32, UInt8
from numpy import ndarray
from scipy.spatial.transform import Rotation

from handler.camera import Intrinsics, project
from handler.context import Check, unstoppable
from handler.job import Options
from handler.records import Frame, VideoFacts
from handler.results.drawing import colour_of, draw_box, draw_label, draw_skeleton
from handler.results.painter import paint_bodies
from handler.results.video_writer import video_writer
from handler.results.write import intrinsics_of, read_lines
from handler.transfer.errors import disk_full_is_coded
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

    `frames` are the very frames that were processed, decoded once more; `lines` is their `frames.jsonl.gz`,
    with one line for each of the `num_frames`. `check` is called for every frame that is drawn and every one
    that the encoder still holds; what it raises comes out.

    Raises:
        WorkerError: DISK_FULL.
    """
    path = into / OVERLAY_NAME
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
    return path


def draw_people(
    image_bgr: UInt8[ndarray, "h w 3"], people: list[dict[str, Any]], *, options: Options, body: BodyModel
) -> None:
    """Draw the people of one line (`PersonRecord`s) on its upright frame, in place."""
    if not people:
        return
    height, width = image_bgr.shape[:2]
    camera = intrinsics_of(options.camera, width, height)
    lost = [person["state"] == "predicted" for person in people]
    colours = [colour_of(person["track_id"]) for person in people]
    if options.overlay_style == "mesh":
        inks = np.array(colours, np.uint8)
        inks[lost] = inks[lost] // 2 + GREY // 2
        opacity = np.where(lost, OPACITY_PREDICTED, OPACITY_TRACKED).astype(np.float32)
        paint_bodies(image_bgr, _placed(people, body.vertices), body.faces, camera, inks, opacity)
    else:
        for points, colour, gone in zip(_joints_2d(people, body, camera), colours, lost, strict=True):
            draw_skeleton(image_bgr, points, colour, faint=gone)
    for person, colour, gone in zip(people, colours, lost, strict=True):
        box = np.array(person["bbox_xyxy"])
        draw_box(image_bgr, box, colour, dashed=gone)
        draw_label(image_bgr, box, f"{person['track_id']}{' lost' if gone else ''}", colour)


def _joints_2d(
    people: list[dict[str, Any]], body: BodyModel, camera: Intrinsics
) -> Float32[ndarray, "n 24 2"]:
    """Pixels: those of the lines, or the body's where the profile has none."""
    if "joints_2d" in people[0]:
        return np.array([person["joints_2d"] for person in people], np.float32).reshape(-1, 24, 2)
    return project(_placed(people, lambda *pose: body.joints(*pose)[1]), camera)


def _placed(
    people: list[dict[str, Any]], points_of: Callable[..., Float32[ndarray, "n k 3"]]
) -> Float32[ndarray, "n k 3"]:
    """The points that the body model has for the people's parameters, in the camera frame."""
    smpl = {
        name: np.array([person["smpl"][name] for person in people], np.float32)
        for name in ("global_orient", "body_pose", "betas", "transl")
    }
    points = points_of(_matrices(smpl["global_orient"]), _matrices(smpl["body_pose"]), smpl["betas"])
    placed: Float32[ndarray, "n k 3"] = points + smpl["transl"][:, None]
    return placed


def _matrices(numbers: Float32[ndarray, "n _"]) -> Float32[ndarray, "n j 3 3"]:
    """Rotation matrices from the line's numbers: matrices for 1 or 23 joints, or their axis-angle."""
    num, size = numbers.shape
    if size in (3, 69):
        numbers = Rotation.from_rotvec(numbers.reshape(-1, 3)).as_matrix().astype(np.float32)
    return numbers.reshape(num, -1, 3, 3)
