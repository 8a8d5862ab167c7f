"""`result.json` as the reader sees it: it describes itself and its neighbours. Knows nothing of files."""

from typing import Literal

from pydantic import Field

from handler.job import Artifact, JobWarning, Options, Output, Profile
from handler.results.joints import JOINT_NAMES, PARENTS, PHALP_JOINT_NAMES

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
        if profile == "full":
            rotation: Literal["axis_angle_rad", "matrix_row_major"] = "matrix_row_major"
            shapes = {"global_orient": (1, 3, 3), "body_pose": (23, 3, 3), "betas": (10,), "transl": (3,)}
        else:
            rotation = "axis_angle_rad"
            shapes = {"global_orient": (1, 3), "body_pose": (23, 3), "betas": (10,), "transl": (3,)}
        if profile != "params":
            shapes |= {"joints_3d": (24, 3), "joints_2d": (24, 2)}
        if profile == "full":
            shapes |= {"phalp.3d_joints": (45, 3), "phalp.2d_joints": (45, 2)}
        names = PHALP_JOINT_NAMES if profile == "full" else None
        return cls(rotation=rotation, shapes=shapes, phalp_joint_names=names)


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
        default=False,
        description="False: depth follows from a body's apparent size and is no measure.",
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
    peak_device_bytes: int | None = None


class ResultDocument(Output):
    """The summary, written last: its presence means that everything else is there."""

    schema_name: Literal["hmr2-phalp/result/1.0"] = Field(
        default="hmr2-phalp/result/1.0",
        alias="schema",
        description="Name and version of this schema.",
    )
    job_id: str
    status: Literal["completed"] = "completed"
    input_sha256: str = Field(description="Hash of the job's input; the same input is not run twice.")
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
