"""Frozen records handed from stage to stage. Knows nothing of how they are made or written.

A frame's life: `Frame` (pixels) -> `PeopleInFrame` (no pixels) -> `TrackedFrame` (identities).
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from jaxtyping import Float32, UInt8
from numpy import concatenate, float32, ndarray

from model_cache.interfaces import Texture


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
        container: FFmpeg format name.
        codec: FFmpeg codec name of the chosen stream.
        stream_index: index of the chosen video stream in the container.
        width: upright width (rotation applied, pixels made square), pixels.
        height: upright height (rotation applied, pixels made square), pixels.
        rotation_degrees: rotation the player must apply, counter-clockwise as PyAV gives it: 0, 90, 180, 270.
        time_base: seconds per pts tick.
        average_fps: from the header; may be wrong; None if unknown.
        duration_seconds: of the pictures, by an index or counted; None if unknown.
        num_frames_estimate: frames to expect, by an index or counted; None if unknown.
        num_frames_announced: frames that an index lists, there or not; None without an index.
        size_bytes: length of the file.
        sha256: of the file's bytes.
        is_hdr: PQ or HLG transfer; frames are tone-mapped to SDR.
        is_cut_off: the file ends before its last picture does.
        in_decode_order: the timestamps are those of decoding, not of showing; see `source/packets.py`.
        tags: how the stored pixels are to be shown.
        warnings: what is already known to be odd.
    """

    path: Path
    container: str
    codec: str
    stream_index: int
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
    num_frames_announced: int | None = None
    is_cut_off: bool = False
    in_decode_order: bool = False
    tags: PictureTags = PictureTags()
    warnings: tuple[Warn, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One decoded, upright frame.

    Attributes:
        frame_index: 0-based count of decoded frames that the job keeps (after trim and stride).
        source_index: 0-based decode index in the file.
        pts: presentation time in ticks of the stream's time base.
        pts_seconds: presentation time in seconds since the file's first frame; strictly increasing.
        image_bgr: upright pixels.
        is_corrupt: the decoder reported damage in this frame.
    """

    frame_index: int
    source_index: int
    pts: int
    pts_seconds: float
    image_bgr: UInt8[ndarray, "h w 3"]
    is_corrupt: bool = False

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_bgr.shape))
        return f"Frame(frame_index={self.frame_index}, pts_seconds={self.pts_seconds:.3f}, image_bgr={shape})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One measured person in one frame: what PHALP calls a detection. No pixels.

    Attributes:
        detection_index: PHALP's `extra_data` (see `PeopleInImage`).
        bbox_xyxy: unpadded detector box, pixels of the upright frame.
        score: 0 to 1.
        global_orient: root rotation, camera frame.
        body_pose: joint rotations relative to the parent joint.
        betas: shape.
        crop_cam: (s, tx, ty) of the crop, PHALP's `camera_bbox`.
        center_px: centre (x, y) of the padded box, pixels of the upright frame.
        scale_px: larger side of the padded box, pixels.
        cam_t: translation on PHALP's 256-pixel canvas with focal length 5000 (PHALP's `camera`).
        joints_3d: PHALP's 45 joints (44 of HMR2 + the body origin), metres, without translation.
        joints_2d: the same 45, projected, 0 to 1 over the padded square canvas (PHALP's `2d_joints`).
        smpl_joints_3d: SMPL's own 24 joints, metres, without translation.
        texture: opaque handle to the UV texture; None once the tracker has taken it, so that no result keeps
            device memory.
        mask_rle: COCO compressed RLE of the full-frame mask, or None.
        appearance: PHALP's `appe`, or None.
    """

    detection_index: int
    bbox_xyxy: Float32[ndarray, "4"]
    score: float
    global_orient: Float32[ndarray, "1 3 3"]
    body_pose: Float32[ndarray, "23 3 3"]
    betas: Float32[ndarray, "10"]
    crop_cam: Float32[ndarray, "3"]
    center_px: Float32[ndarray, "2"]
    scale_px: float
    cam_t: Float32[ndarray, "3"]
    joints_3d: Float32[ndarray, "45 3"]
    joints_2d: Float32[ndarray, "45 2"]
    smpl_joints_3d: Float32[ndarray, "24 3"]
    texture: Texture | None = None
    mask_rle: str | None = None
    appearance: Float32[ndarray, " a"] | None = None

    @property
    def pose_vector(self) -> Float32[ndarray, "229"]:
        """PHALP's pose vector: rotations row-major 9 + 207, betas 10, `cam_t` with z / 200."""
        camera = self.cam_t / [1, 1, 200]
        parts = [self.global_orient.ravel(), self.body_pose.ravel(), self.betas, camera]
        return concatenate(parts).astype(float32)

    @property
    def location_vector(self) -> Float32[ndarray, "99"]:
        """PHALP's `loca`: 45 canvas joints 0 to 1 (90), then `cam_t` three times."""
        return concatenate([self.joints_2d.ravel(), self.cam_t, self.cam_t, self.cam_t]).astype(float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleInFrame:
    """The measured people of one frame; `people` may be empty.

    Attributes:
        frame_index, source_index, pts, pts_seconds: as in `Frame`.
        width, height: upright frame size, pixels.
        shot: this frame begins a new shot.
        is_corrupt: the decoder reported damage in this frame.
        people: in detector order.
    """

    frame_index: int
    source_index: int
    pts: int
    pts_seconds: float
    width: int
    height: int
    people: tuple[Person, ...]
    shot: bool = False
    is_corrupt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What PHALP expects of a track in a frame where nobody was matched to it.

    Attributes:
        pose_vector: from the pose predictor (229, see `Person.pose_vector`).
        location_vector: from the location regression (99): entries 90..92 are `cam_t`.
    """

    pose_vector: Float32[ndarray, "229"]
    location_vector: Float32[ndarray, "99"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedPerson:
    """One identity in one frame.

    Attributes:
        track_id: from 1, unique in the job.
        state: `tracked` = measured in this frame; `predicted` = lost, see `prediction`.
        frames_since_seen: 0 if tracked, else frames since the last match (PHALP's `tracked_time`).
        person: the measurement; of the last match if the state is `predicted`.
        prediction: what the tracker expected here; None if the state is `tracked`.
        back_filled: measured before the track was confirmed and handed in later.
    """

    track_id: int
    state: Literal["tracked", "predicted"]
    frames_since_seen: int
    person: Person
    prediction: Prediction | None = None
    back_filled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedFrame:
    """The confirmed identities of one frame, in PHALP's order; fields as in `PeopleInFrame`.

    Attributes:
        num_detected: people measured in this frame, tracked or not.
    """

    frame_index: int
    source_index: int
    pts: int
    pts_seconds: float
    width: int
    height: int
    people: tuple[TrackedPerson, ...]
    num_detected: int
    shot: bool = False
    is_corrupt: bool = False
