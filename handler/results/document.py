"""`result.json` and a line of `frames.jsonl.gz` as their reader sees them.

The schema and the TypeScript types come from these models. Lines are not built from them: `encode.py` writes
the same fields straight from arrays, and tests hold the two together.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from handler.job import Artifact, JobWarning, Options, Output, Profile, Strict

# SMPL's 24 joints (Loper et al. 2015); HMR2's 44 are OpenPose's BODY_25 and the 19 extra joints of SPIN
# (Kolotouros et al. 2019), which mix LSP, MPII and Human3.6M definitions; PHALP appends the body's origin.
_SMPL = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot "
    "right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hand right_hand"
)
JOINT_NAMES = tuple(_SMPL.split())
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

_OPENPOSE = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip "
    "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
    "left_small_toe left_heel right_big_toe right_small_toe right_heel"
)
_EXTRA = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
    "left_shoulder left_elbow left_wrist lsp_neck lsp_head_top mpii_pelvis mpii_thorax h36m_spine h36m_jaw "
    "h36m_head"
)
PHALP_JOINT_NAMES = (
    *(f"openpose_{name}" for name in _OPENPOSE.split()),
    *(f"extra_{name}" for name in _EXTRA.split()),
    "body_origin",
)

LICENSE_NOTICE = (
    "Body parameters follow the SMPL model (Loper 2015), whose licence allows non-commercial use only; "
    "commercial use needs a licence from its owners. This result holds parameters and joints, "
    "no part of the SMPL model itself. HMR2 (4D-Humans) and PHALP: MIT, Goel, Pavlakos, Rajasegaran et al."
)


class Source(Output):
    """The video as its container describes it, and as it turned out."""

    width: int = Field(description="Upright width, in square pixels.")
    height: int = Field(description="Upright height, in square pixels.")
    rotation_deg: int = Field(description="Rotation that was applied, counter-clockwise.")
    container: str
    codec: str
    time_base: str = Field(description="Seconds per pts tick, as a fraction.")
    avg_fps: float | None = Field(description="From the header; may be wrong.")
    is_vfr: bool = Field(description="The kept frames are not evenly spaced.")
    is_hdr: bool = Field(description="PQ or HLG; frames were tone-mapped to SDR.")
    duration_s: float | None = Field(description="Length of the pictures, by an index or counted.")
    frames_decoded: int = Field(description="Frames decoded up to the last kept one, skipped ones included.")
    bytes: int
    sha256: str


class Processed(Output):
    """What part of the video the frames cover."""

    frames: int = Field(description="Lines in frames.jsonl.gz.")
    start_s: float = Field(description="Time of the first kept frame.")
    end_s: float = Field(description="Time of the last kept frame.")
    duration_s: float = Field(description="From the first kept frame to the end of the last one.")
    stride: int
    profile: Profile
    truncated: bool = Field(description="The file breaks off before the end of the part that was asked for.")
    reason: str | None = Field(default=None, description="Why it was truncated.")


class Conventions(Output):
    """Names, shapes, units and frames of every number in the frames."""

    camera_frame: str = "opencv: +x right, +y down, +z forward"
    length: Literal["m"] = "m"
    rotation: Literal["axis_angle_rad", "matrix_row_major"]
    bbox: Literal["xyxy_px"] = "xyxy_px"
    image: str = (
        "pixels of the upright frame (rotation applied, pixels made square), "
        "x right, y down, (0, 0) = top left corner"
    )
    transl: str = "added to every vertex and joint after skinning; the body's origin, not the pelvis"
    shapes: dict[str, tuple[int, ...]] = Field(description="How the flat arrays unfold, row-major.")
    joint_names: tuple[str, ...] = JOINT_NAMES
    parents: tuple[int, ...] = PARENTS
    phalp_joint_names: tuple[str, ...] | None = Field(
        default=None, description="The 45 joints of phalp.3d_joints (profile full)."
    )
    to_gltf: tuple[int, int, int] = Field(default=(1, -1, -1), description="Multiply x, y, z by this.")

    @classmethod
    def of(cls, profile: Profile) -> "Conventions":
        """The conventions of a profile."""
        each = (3, 3) if profile == "full" else (3,)
        shapes = {"global_orient": (1, *each), "body_pose": (23, *each), "betas": (10,), "transl": (3,)}
        if profile != "params":
            shapes |= {"joints_3d": (24, 3), "joints_2d": (24, 2)}
        if profile != "full":
            return cls(rotation="axis_angle_rad", shapes=shapes)
        shapes |= {"phalp.3d_joints": (45, 3), "phalp.2d_joints": (45, 2)}
        return cls(rotation="matrix_row_major", shapes=shapes, phalp_joint_names=PHALP_JOINT_NAMES)


class Camera(Output):
    """The pinhole camera that `transl`, `joints_3d` and `joints_2d` belong to."""

    model: Literal["pinhole"] = "pinhole"
    fx: float
    fy: float
    cx: float
    cy: float
    source: Literal["assumed", "user"] = Field(
        description="Where the focal length came from: PHALP's assumption or the caller."
    )
    metric_depth: bool = Field(
        default=False, description="False: depth follows from a body's apparent size; it is not measured."
    )


class ModelFileInfo(Output):
    """One weight file."""

    role: str
    name: str
    sha256: str


class ModelsInfo(Output):
    """The models that made the result."""

    models: str = Field(description="official or lite.")
    engine: str = Field(description="native or upstream (the official packages).")
    detector: str
    backbone: str
    body_model: str
    precision: str
    device: str
    files: tuple[ModelFileInfo, ...]
    notice: str = Field(description="What to know about accuracy or licence; may be empty.")


class TrackInfo(Output):
    """One identity over the whole video."""

    track_id: int
    first_frame: int
    last_frame: int
    n_tracked: int = Field(description="Frames in which the person was measured.")
    n_predicted: int = Field(description="Frames in which the person was lost but still expected.")
    gaps: int = Field(description="Times the person was lost and found again.")
    mean_score: float | None
    betas_median: tuple[float, ...] | None = Field(
        description="Median shape; of at most 64 measurements, evenly spaced in time, if there were more."
    )


class Quality(Output):
    """Numbers that tell a good result from a doubtful one, without reading the frames."""

    frames_with_people: int = Field(description="Frames with at least one measured person.")
    person_frames_tracked: int
    person_frames_predicted: int
    id_births: int = Field(description="Confirmed identities.")
    gaps: int = Field(description="Times somebody was lost and found again.")
    detections_unassigned: int = Field(description="Measured people who never became part of an identity.")
    mean_score: float | None
    jitter_m_s3: float | None = Field(
        description="Mean third derivative of the 24 joints about the pelvis, m/s^3; lower is smoother."
    )
    shots: int = Field(description="Camera cuts found (phalp.detect_shots).")
    corrupt_frames: int


class Timing(Output):
    """Where the time and the memory went."""

    total_s: float
    fps: float = Field(description="Frames per second of total_s.")
    stages_s: dict[str, float] = Field(description="Seconds per stage; stages overlap.")
    peak_rss_bytes: int | None = None
    peak_device_bytes: int | None = Field(
        default=None, description="In use on the GPU, its context and other processes included."
    )


class ResultDocument(Output):
    """The summary, written last: its presence means that everything else is there."""

    schema_name: Literal["hmr2-phalp/result/1.0"] = Field(
        default="hmr2-phalp/result/1.0", alias="schema", description="Name and version of this schema."
    )
    job_id: str
    status: Literal["completed"] = "completed"
    input_sha256: str = Field(
        description="Hash of the job's input, which is not run twice; of its options alone with `track`."
    )
    options: Options
    source: Source
    processed: Processed
    conventions: Conventions
    camera: Camera
    models: ModelsInfo
    tracks: tuple[TrackInfo, ...] = Field(description="By id; the longest ones if there are very many.")
    tracks_omitted: int = Field(default=0, description="Identities not listed here; all are in the frames.")
    quality: Quality
    timing: Timing
    warnings: tuple[JobWarning, ...]
    artifacts: tuple[Artifact, ...] = Field(description="Every file of this result but this one.")
    license_notice: str = LICENSE_NOTICE


Vector3 = tuple[float, float, float]
Numbers9 = Annotated[tuple[float, ...], Field(min_length=9, max_length=9)]
Numbers69 = Annotated[tuple[float, ...], Field(min_length=69, max_length=69)]
Numbers207 = Annotated[tuple[float, ...], Field(min_length=207, max_length=207)]


def _without_null(schema: dict[str, Any]) -> None:
    """An optional field is left out of a line, never written as null."""
    schema["anyOf"] = [choice for choice in schema.pop("anyOf") if choice != {"type": "null"}]
    if len(schema["anyOf"]) == 1:
        schema.update(schema.pop("anyOf")[0])
    schema.pop("default", None)


OPTIONAL: dict[str, Any] = {"default": None, "json_schema_extra": _without_null}


class SmplParameters(Strict):
    """SMPL's parameters of one person in one frame."""

    global_orient: Vector3 | Numbers9 = Field(
        description="Root rotation, camera frame: axis-angle (3, rad); profile full: row-major matrix (9)."
    )
    body_pose: Numbers69 | Numbers207 = Field(
        description="23 joints relative to their parents: axis-angle (69, rad); profile full: matrices (207)."
    )
    betas: Annotated[tuple[float, ...], Field(min_length=10, max_length=10)] = Field(
        description="Shape coefficients of this frame."
    )
    transl: Vector3 = Field(
        description="Metres, camera frame; added to every vertex and joint after skinning. Not the pelvis."
    )


class Mask(Strict):
    """A full-frame mask as COCO compressed RLE."""

    size: tuple[int, int] = Field(description="Height, width.")
    counts: str


class PhalpRecord(Strict):
    """What PHALP records of a person, under PHALP's names (profile full).

    For a lost person these are, as in PHALP, copies of the last measurement.
    """

    tracked_time: int = Field(ge=0, description="Frames since the last match; 0 = measured in this frame.")
    bbox: tuple[float, float, float, float] = Field(description="x, y, width, height of the detector's box.")
    center: tuple[float, float] = Field(description="Centre of the padded box, pixels.")
    scale: float = Field(description="Larger side of the padded box / larger side of the frame.")
    size: tuple[int, int] = Field(description="Frame height, width.")
    conf: float = Field(description="Detector score.")
    extra_data: int = Field(description="Index among the frame's detections, before the size filter.")
    camera: Vector3 = Field(description="Translation on the 256-pixel canvas with focal length 5000.")
    camera_bbox: Vector3 = Field(description="Weak camera (s, tx, ty) of the crop.")
    joints_3d: Annotated[tuple[float, ...], Field(min_length=135, max_length=135)] = Field(
        alias="3d_joints", description="45 joints, metres, body frame without translation."
    )
    joints_2d: Annotated[tuple[float, ...], Field(min_length=90, max_length=90)] = Field(
        alias="2d_joints", description="The same 45, 0 to 1 over the padded square canvas."
    )


class PersonRecord(Strict):
    """One identity in one frame."""

    track_id: int = Field(ge=1, description="Unique in the job.")
    state: Literal["tracked", "predicted"] = Field(
        description="Measured in this frame, or lost and placed where the tracker expects the person."
    )
    score: float | None = Field(ge=0, le=1, description="Detector score; null if predicted.")
    bbox_xyxy: tuple[float, float, float, float] = Field(description="Box, pixels of the upright frame.")
    smpl: SmplParameters
    joints_3d: Annotated[tuple[float, ...] | None, Field(min_length=72, max_length=72)] = Field(
        **OPTIONAL,
        description="24 SMPL joints x 3, metres, camera frame (transl applied). Not in profile params.",
    )
    joints_2d: Annotated[tuple[float, ...] | None, Field(min_length=48, max_length=48)] = Field(
        **OPTIONAL, description="The same 24 x 2, pixels of the upright frame. Not in profile params."
    )
    phalp: PhalpRecord | None = Field(**OPTIONAL, description="PHALP's own record (profile full).")
    mask: Mask | None = Field(**OPTIONAL, description="Instance mask, if asked for (profile full).")


class FrameRecord(Strict):
    """One line: one frame that the job kept, with nobody in it if `people` is empty."""

    frame: int = Field(ge=0, description="0-based count of kept frames; no gaps.")
    source_frame: int = Field(ge=0, description="0-based decode index in the file.")
    time_s: float = Field(description="Seconds since the file's first frame, from its own timestamps.")
    pts: int = Field(description="Timestamp in ticks of the stream's time base.")
    shot: Literal[0, 1] = Field(description="1 if this frame begins a new shot (phalp.detect_shots).")
    corrupt: Literal[True] | None = Field(**OPTIONAL, description="The decoder reported damage.")
    size: tuple[int, int] | None = Field(
        **OPTIONAL, description="Width, height, where they differ from the first frame's."
    )
    people: tuple[PersonRecord, ...]


class FramesDocument(Output):
    """`frames.json`: the same frames as one document."""

    schema_name: Literal["hmr2-phalp/frames/1.0"] = Field(
        default="hmr2-phalp/frames/1.0", alias="schema", description="Name and version of this schema."
    )
    job_id: str
    conventions: Conventions
    camera: Camera
    frames: tuple[FrameRecord, ...]
