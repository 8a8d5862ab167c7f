"""One line of `frames.jsonl.gz` as the reader sees it. Knows nothing of how lines are made.

The schema and the TypeScript types come from these models. They are not built per frame: `encode.py` writes
the same fields straight from arrays, and tests hold the two together.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from handler.job import Output, Strict
from handler.results.document import Camera, Conventions

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
