"""Frozen records handed from stage to stage.

A frame's way: `Frame` (pixels) -> `PeopleInFrame` (no pixels) -> `TrackedFrame` (identities), each with the
same `FrameInfo`. Its people are columns with one row a person: perception's `People` -> `PlacedPeople` ->
`TrackedPeople`, each the former with more columns.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from numpy import ndarray

from model_cache.interfaces import People

# Pose vector (PHALP's `pose`): rotation matrices row-major, root first; shape; `cam_t`, its depth divided.
POSE_SIZE = 229
ROTATIONS, BETAS, POSE_CAMERA = slice(0, 216), slice(216, 226), slice(226, 229)
POSE_DEPTH_DIVISOR = 200

# Location vector (PHALP's `loca`): 45 joints on the canvas, the body's origin last; `cam_t`, three times.
# In an expected one the second `cam_t` holds half widths of prediction intervals instead.
LOCATION_SIZE = 99
JOINTS_2D, ORIGIN, CAM_T = slice(0, 90), slice(88, 90), slice(90, 93)
ORIGIN_X, ORIGIN_Y, DEPTH = 88, 89, 92
INTERVALS = slice(93, 96)  # of the origin's x and y, and of the depth as a factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Warn:
    """Something the reader of a result should know that did not fail the job.

    Attributes:
        code: stable name, listed in docs/05-errors.md.
        message: one plain sentence.
        frame_index: the first frame it concerns, or None for the whole video.
    """

    code: str
    message: str
    frame_index: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTags:
    """What a container says about the pixels in it; its pictures may say otherwise of colour.

    Attributes:
        pixel_aspect: width of a stored pixel over its height, before any rotation.
        transfer, primaries, matrix: numbers of ITU-T H.273; 2 is unspecified.
        colour_range: 1 limited, 2 full, 0 unspecified.
    """

    pixel_aspect: Fraction = Fraction(1)
    transfer: int = 2
    primaries: int = 2
    matrix: int = 2
    colour_range: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """What the container says about a video, before a frame is decoded.

    Attributes:
        path: the local file.
        container, codec: FFmpeg's names of the format and of the chosen stream's codec.
        width, height: upright (rotation applied, pixels made square), pixels.
        rotation_degrees: rotation the player must apply, counter-clockwise as PyAV gives it: 0, 90, 180, 270.
        time_base: seconds per pts tick.
        first_pts: presentation time of the first frame, ticks; None if the file does not say.
        average_fps: from the header; may be wrong; None if unknown.
        duration_seconds: of the pictures, by an index or counted; None if unknown.
        num_frames_estimate: frames to expect, by an index or counted; None if unknown.
        num_frames_announced: frames that an index lists, there or not; None without an index.
        size_bytes, sha256: of the file.
        is_hdr: PQ or HLG transfer; frames are tone-mapped to SDR.
        is_cut_off: the file ends before its last picture does.
        in_decode_order: the timestamps are those of decoding, not of showing; see `source/packets.py`.
        tags: how the stored pixels are to be shown.
        warnings: what is already known to be odd.
    """

    path: Path
    container: str
    codec: str
    width: int
    height: int
    rotation_degrees: int
    time_base: Fraction
    average_fps: float | None
    duration_seconds: float | None
    num_frames_estimate: int | None
    size_bytes: int
    sha256: str
    is_hdr: bool
    first_pts: int | None = None
    num_frames_announced: int | None = None
    is_cut_off: bool = False
    in_decode_order: bool = False
    tags: PictureTags = PictureTags()
    warnings: tuple[Warn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInfo:
    """Which frame of the video something belongs to.

    Attributes:
        frame_index: 0-based count of decoded frames that the job keeps (after trim and stride).
        source_index: 0-based decode index in the file.
        pts: presentation time in ticks of the stream's time base.
        pts_seconds: presentation time in seconds since the file's first frame; strictly increasing.
        width, height: upright size, pixels.
        shot: a new shot begins here.
        is_corrupt: the decoder reported damage in this frame.
    """

    frame_index: int
    source_index: int
    pts: int
    pts_seconds: float
    width: int
    height: int
    shot: bool = False
    is_corrupt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One decoded, upright frame."""

    info: FrameInfo
    image_bgr: UInt8[ndarray, "h w 3"]

    def __repr__(self) -> str:
        return f"Frame({self.info})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPeople(People):
    """The measured people of a frame (PHALP's detections) with their cameras on PHALP's canvas.

    Attributes:
        center_px: centre (x, y) of the padded box, pixels of the upright frame.
        scale_px: larger side of the padded box, pixels.
        cam_t: translation on PHALP's 256-pixel canvas with focal length 5000 (PHALP's `camera`).
        joints_2d: the 45 joints projected, 0 to 1 over the padded square canvas (PHALP's `2d_joints`).
    """

    center_px: Float32[ndarray, "n 2"]
    scale_px: Float32[ndarray, " n"]
    cam_t: Float32[ndarray, "n 3"]
    joints_2d: Float32[ndarray, "n 45 2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleInFrame:
    """The measured people of one frame, in detector order; there may be none."""

    info: FrameInfo
    people: PlacedPeople


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedPeople(PlacedPeople):
    """The confirmed identities of one frame, in PHALP's order.

    The columns of `PlacedPeople` are of the newest measurement: of this frame, or a lost person's last match.

    Attributes:
        track_ids: from 1, unique in the job.
        frames_since_seen: 0 if measured in this frame, else frames since the last match (PHALP's
            `tracked_time`).
        poses: pose vectors: the measured one, of a lost person the expected one.
        locations: location vectors in the same way.
    """

    track_ids: Int64[ndarray, " n"]
    frames_since_seen: Int64[ndarray, " n"]
    poses: Float32[ndarray, "n 229"]
    locations: Float32[ndarray, "n 99"]

    @property
    def measured(self) -> Bool[ndarray, " n"]:
        """Who was measured in this frame; the others are lost and only expected."""
        seen: Bool[ndarray, " n"] = self.frames_since_seen == 0
        return seen


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedFrame:
    """The confirmed identities of one frame."""

    info: FrameInfo
    people: TrackedPeople
    num_detected: int  # people measured in this frame, tracked or not


def pose_vectors(people: PlacedPeople) -> Float32[ndarray, "n 229"]:
    """The people's pose vectors."""
    rotations = people.rotations.reshape(-1, 216)
    vectors = np.concatenate([rotations, people.betas, people.cam_t], axis=1)
    vectors[:, -1] /= POSE_DEPTH_DIVISOR
    return vectors


def location_vectors(people: PlacedPeople) -> Float32[ndarray, "n 99"]:
    """The people's location vectors."""
    return np.concatenate([people.joints_2d.reshape(-1, 90), *[people.cam_t] * 3], axis=1)


def phalp_joints_3d(people: People) -> Float32[ndarray, "n 45 3"]:
    """PHALP's 45 joints: 44 of HMR2 and the body's origin, metres, without translation."""
    return np.concatenate([people.joints_3d, np.zeros((len(people), 1, 3), np.float32)], axis=1)
