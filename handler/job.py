"""The request, the reply and the progress message, as the caller sees them.

JSON Schemas and TypeScript types are generated from these models (`make schema`).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, model_validator

ArtifactKind = Literal["result.json", "frames.jsonl.gz", "frames.json", "overlay.mp4"]
Profile = Literal["params", "standard", "full"]


class Strict(BaseModel):
    """A model of the API: unknown fields are refused, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Output(Strict):
    """A model that this worker writes: every field is always present."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class CameraIntrinsics(Strict):
    """A camera the caller knows, in pixels of the upright frame."""

    fx: float = Field(gt=0, description="Focal length along x, pixels of the upright frame.")
    fy: float | None = Field(default=None, gt=0, description="Focal length along y; default fx.")
    cx: float | None = Field(default=None, description="Principal point x, pixels; default width / 2.")
    cy: float | None = Field(default=None, description="Principal point y, pixels; default height / 2.")


class ChosenPerson(Strict):
    """One person to keep: the one at a point, or with the largest overlap with a box, at a time."""

    time_s: float = Field(default=0.0, ge=0, description="Seconds since the video's first frame.")
    point: tuple[float, float] | None = Field(
        default=None, examples=[[960, 540]], description="x, y in pixels of the upright frame."
    )
    box: tuple[float, float, float, float] | None = Field(
        default=None,
        examples=[[800, 200, 1100, 900]],
        description="x1, y1, x2, y2 in pixels of the upright frame.",
    )

    @model_validator(mode="after")
    def _one_of_point_and_box(self) -> "ChosenPerson":
        if (self.point is None) == (self.box is None):
            raise ValueError("must have either a point or a box")
        return self


class TrackingOptions(Strict):
    """PHALP's tracking options under PHALP's own dotted names, with PHALP's defaults."""

    model_config = ConfigDict(
        alias_generator=lambda name: name if name == "upstream_quirks" else f"phalp.{name}"
    )

    low_th_c: float = Field(default=0.8, ge=0, lt=1, description="People with a score above this are kept.")
    small_w: float = Field(default=50, ge=0, description="Boxes narrower than this are dropped, pixels.")
    small_h: float = Field(default=100, ge=0, description="Boxes shorter than this are dropped, pixels.")
    n_init: int = Field(default=5, ge=1, le=60, description="Matches before a track is confirmed.")
    max_age_track: int = Field(default=50, ge=0, le=1000, description="Frames a lost track is kept.")
    hungarian_th: float = Field(default=100.0, gt=0, description="Highest cost of a match.")
    alpha: float = Field(default=0.1, ge=0, le=1, description="Weight of new texture, times score squared.")
    track_history: int = Field(default=7, ge=3, le=60, description="Observations kept per track.")
    predict: Literal["TPL", "TP", "TL", "T"] = Field(
        default="TPL",
        description="What is predicted for the next frame besides the texture: pose (P) and location (L); "
        "without P or L the last one seen is used.",
    )
    detect_shots: bool = Field(default=False, description="Detect camera cuts while streaming.")
    upstream_quirks: bool = Field(
        default=False, description="Reproduce the official packages' known bugs (docs/07-differences.md)."
    )


class Options(Strict):
    """How the video is processed; every field has a default."""

    start_s: float = Field(default=0.0, ge=0, description="Skip frames before this time, seconds.")
    end_s: float | None = Field(
        default=None, gt=0, description="Stop at this time, seconds; default the end."
    )
    stride: int = Field(default=1, ge=1, le=1000, description="Keep every n-th frame.")
    max_people: int | None = Field(
        default=None, ge=1, le=1000, description="Most people per frame, highest scores first."
    )
    person: ChosenPerson | None = Field(
        default=None, examples=[{"point": [960, 540]}], description="Keep one chosen person only."
    )
    camera: CameraIntrinsics | None = Field(
        default=None,
        examples=[{"fx": 1500}],
        description="Known intrinsics; without them the focal length is PHALP's assumption.",
    )
    profile: Profile = Field(default="standard", description="How much each person's record holds.")
    masks: bool = Field(default=False, description="Add each person's mask as COCO RLE (profile full).")
    artifacts: tuple[Literal["frames.json", "overlay.mp4"], ...] = Field(
        default=(),
        examples=[["overlay.mp4"]],
        description="Extra files beside result.json and frames.jsonl.gz.",
    )
    overlay_style: Literal["mesh", "skeleton"] = Field(
        default="mesh", description="What overlay.mp4 draws on people."
    )
    include_predicted: bool = Field(
        default=True,
        description="Also write people who are not seen in a frame, where the tracker expects them.",
    )
    tracking: TrackingOptions = Field(default_factory=TrackingOptions, examples=[{"phalp.n_init": 3}])

    @model_validator(mode="after")
    def _end_after_start(self) -> "Options":
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError("end_s must be more than start_s")
        return self

    @model_validator(mode="after")
    def _masks_only_in_full(self) -> "Options":
        if self.masks and self.profile != "full":
            raise ValueError("masks needs the profile full")
        return self


class BucketOutput(Strict):
    """Results go to a bucket, with the worker's own credentials."""

    bucket: str | None = Field(
        default=None, min_length=3, max_length=63, description="Default: the worker's BUCKET_NAME."
    )
    prefix: str = Field(
        default="", max_length=512, description="Keys begin with {prefix}/{job_id}/; checked for safety."
    )


class PutUrls(Strict):
    """A presigned PUT URL for each file, signed for no header but host and Content-Type."""

    model_config = ConfigDict(populate_by_name=False)

    result: SecretStr = Field(alias="result.json")
    frames: SecretStr = Field(alias="frames.jsonl.gz")
    frames_document: SecretStr | None = Field(default=None, alias="frames.json")
    overlay: SecretStr | None = Field(default=None, alias="overlay.mp4")

    def by_kind(self) -> dict[ArtifactKind, SecretStr]:
        """The URLs that were given."""
        urls: dict[ArtifactKind, SecretStr | None] = {
            "result.json": self.result,
            "frames.jsonl.gz": self.frames,
            "frames.json": self.frames_document,
            "overlay.mp4": self.overlay,
        }
        return {kind: url for kind, url in urls.items() if url is not None}


class PresignedOutput(Strict):
    """Results go to presigned PUT URLs, one per artifact."""

    put_urls: PutUrls = Field(
        examples=[{"result.json": "https://...", "frames.jsonl.gz": "https://..."}],
        description="Presigned PUT URL per artifact; frames.json and overlay.mp4 where they are asked for.",
    )


def _place(value: Any) -> str | None:
    if isinstance(value, PresignedOutput) or (isinstance(value, dict) and "put_urls" in value):
        return "presigned"
    return "bucket" if isinstance(value, dict | BucketOutput) else None


class JobInput(Strict):
    """The `input` of a job."""

    video_url: SecretStr = Field(
        min_length=1,
        max_length=8192,
        examples=["https://..."],
        description="Presigned https URL of the video.",
    )
    output: Annotated[
        Annotated[BucketOutput, Tag("bucket")] | Annotated[PresignedOutput, Tag("presigned")],
        Discriminator(_place),
    ] = Field(
        default_factory=BucketOutput,
        examples=[{"prefix": "clips"}],
        description="Where the results go.",
    )
    options: Options = Field(default_factory=Options, examples=[{"stride": 2}])

    @model_validator(mode="after")
    def _every_artifact_has_a_place(self) -> "JobInput":
        if isinstance(self.output, PresignedOutput):
            missing = set(self.options.artifacts) - set(self.output.put_urls.by_kind())
            if missing:
                raise ValueError(
                    f"output.put_urls needs a URL for {' and for '.join(sorted(missing))} too, "
                    "which options.artifacts asks for"
                )
        return self


class Artifact(Output):
    """One uploaded file."""

    kind: ArtifactKind
    key: str | None = Field(description="Object key in the bucket; null for presigned uploads.")
    bytes: int
    sha256: str
    content_type: str = Field(description="The Content-Type it is stored with.")
    encoding: str | None = Field(
        default=None, description="How the file itself is packed (gzip); never an HTTP Content-Encoding."
    )


class JobWarning(Output):
    """Something unusual that did not fail the job."""

    code: str
    message: str
    frame: int | None = None


class Reply(Output):
    """What a finished job returns: where the results are and a short summary, never the data."""

    status: Literal["completed"] = "completed"
    job_id: str
    bucket: str | None
    artifacts: tuple[Artifact, ...]
    frames: int
    people: int = Field(description="Confirmed identities.")
    duration_s: float = Field(description="Length of the processed part of the video.")
    fps: float = Field(description="Frames processed per second of processing time.")
    models: str
    warnings: tuple[JobWarning, ...] = ()
    reused: bool = Field(
        default=False, description="The complete result of an earlier run of the same job was returned."
    )


class ErrorReply(Strict):
    """What a failed job returns; `error` is a string because the platform needs one."""

    error: str = Field(description="CODE: message")
    error_code: str
    retryable: bool
    stage: str | None = None
    job_id: str
    refresh_worker: bool | None = None


class ProgressMessage(Output):
    """One progress update."""

    stage: str
    frames_done: int
    frames_total: int | None
    time_s: float = Field(description="Position in the video, seconds.")
    fps: float
    eta_s: float | None
    people: int = Field(description="People in the newest frame.")
