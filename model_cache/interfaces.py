"""The interfaces of loaded networks: arrays in, arrays out.

`handler` imports this file and `errors.py`, nothing else of the package, so it can be tested without torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from numpy import ndarray

Columns = TypeVar("Columns", bound="People")


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceptionOptions:
    """Per-job choices of perception, PHALP's names and defaults where it has them.

    Attributes:
        score_threshold: people with `score > score_threshold` are kept (`phalp.low_th_c`).
        small_w: unpadded boxes narrower than this are dropped, pixels (`phalp.small_w`).
        small_h: unpadded boxes lower than this are dropped, pixels (`phalp.small_h`).
        max_people: at most this many people per frame, the highest scores; None for all.
        masks: also give each person's mask as COCO RLE.
    """

    score_threshold: float = 0.8
    small_w: float = 50.0
    small_h: float = 100.0
    max_people: int | None = None
    masks: bool = False


@runtime_checkable
class Texture(Protocol):
    """Opaque handle to one person's UV texture map, on device or host, which only a `TextureModel` opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """What perception measured of the people of one image: columns with one row a person; n may be 0.

    The handler's records add columns to these (`handler.records`). Plain numpy but for `textures`.

    Attributes:
        detection_index: index of each person among the detections that passed the score filter, before
            the size filter (PHALP's `extra_data`), so it may have gaps.
        bbox_xyxy: unpadded detector box, pixels of the upright image.
        bbox_padded_xyxy: the same box grown to the crop's aspect ratio of 192:256, not clipped; its
            centre and larger side are the crop's centre and scale.
        scores: detector scores, 0 to 1.
        rotations: SMPL's rotation matrices: the root's in the camera frame (x right, y down, z forward), then
            those of 23 joints relative to their parents.
        betas: shape coefficients.
        crop_cam: weak camera of the crop (s, tx, ty), HMR2's `pred_cam`, crop units.
        joints_3d: HMR2's 44 joints (25 OpenPose BODY_25 + 19 extra), metres, body frame without translation.
        smpl_joints_3d: SMPL's own 24 posed joints, metres, body frame without translation.
        textures: one opaque handle per person; None once the tracker has taken them.
        mask_rle: COCO compressed RLE `counts` of each full-image mask, or None if not asked for.
    """

    detection_index: Int64[ndarray, " n"]
    bbox_xyxy: Float32[ndarray, "n 4"]
    bbox_padded_xyxy: Float32[ndarray, "n 4"]
    scores: Float32[ndarray, " n"]
    rotations: Float32[ndarray, "n 24 3 3"]
    betas: Float32[ndarray, "n 10"]
    crop_cam: Float32[ndarray, "n 3"]
    joints_3d: Float32[ndarray, "n 44 3"]
    smpl_joints_3d: Float32[ndarray, "n 24 3"]
    textures: tuple[Texture, ...] | None
    mask_rle: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def global_orient(self) -> Float32[ndarray, "n 1 3 3"]:
        """The root's rotation."""
        return self.rotations[:, :1]

    @property
    def body_pose(self) -> Float32[ndarray, "n 23 3 3"]:
        """The joints' rotations."""
        return self.rotations[:, 1:]

    @classmethod
    def extend(cls: type[Columns], people: "People", **columns: Any) -> Columns:
        """The same people with further columns, those that this record adds to the one of `people`."""
        return cls(**{name: getattr(people, name) for name in people.__dataclass_fields__}, **columns)

    def take(self: Columns, rows: Sequence[int] | ndarray) -> Columns:
        """The given rows in the given order, copied, so that they keep no larger array alive."""
        chosen = np.asarray(rows, np.int64)
        return type(self)(**{name: _rows(getattr(self, name), chosen) for name in self.__dataclass_fields__})

    @classmethod
    def concat(cls: type[Columns], parts: Sequence[Columns]) -> Columns:
        """The people of all parts; there must be one."""
        return cls(
            **{name: _joined([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__}
        )


def _rows(column: Any, rows: Int64[ndarray, " m"]) -> Any:
    if isinstance(column, tuple):
        return tuple(column[row] for row in rows.tolist())
    return None if column is None else column[rows]


def _joined(column: list[Any]) -> Any:
    if isinstance(column[0], tuple):
        return tuple(value for part in column for value in part)
    return None if column[0] is None else np.concatenate(column)


@runtime_checkable
class Perception(Protocol):
    """Detector, crops, HMR2 and texture as one device pass over a batch of frames."""

    def perceive(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frame_indices: Sequence[int],
        options: PerceptionOptions,
    ) -> list[People]:
        """One record per image, in order. People are batched across the images.

        Out of memory halves the batch and goes on from the same frame.

        Raises:
            DeviceOutOfMemory: one image alone does not fit.
            DeviceFault: the device needs a new process.
            ModelOutputInvalid: a network gave numbers that are not finite.
        """


@runtime_checkable
class TextureModel(Protocol):
    """Compares and mixes textures where they lie."""

    def distance(
        self, tracks: Sequence[Texture], detections: Sequence[Texture], pairs: Int64[ndarray, "p 2"]
    ) -> Float64[ndarray, " p"]:
        """PHALP's `r_texture` of the given (track, detection) index pairs; 0 is identical."""

    def mix(self, track: Texture, detection: Texture, score: float, *, alpha: float = 0.1) -> Texture:
        """The track's texture after seeing the detection; new colours weigh `alpha * score**2`.

        May reuse the memory of `track`, which must not be used afterwards; `detection` is left as it is.
        """

    def copy(self, texture: Texture) -> Texture:
        """An independent copy, for a new track's first sample."""


@runtime_checkable
class PosePredictor(Protocol):
    """PHALP's pose transformer."""

    @property
    def frame_length(self) -> int:
        """Time slots of the transformer (official 125)."""

    def predict_next(
        self,
        poses: Float32[ndarray, "b t 229"],
        times: Int64[ndarray, "b t"],
        time_to_predict: Int64[ndarray, " b"],
        *,
        upstream_quirks: bool = False,
    ) -> Float32[ndarray, "b 229"]:
        """The pose vector `time_to_predict + 1` frames after each history's last frame.

        Args:
            poses: the last t pose vectors of each track, oldest first: global orientation 9, body pose 207
                (row-major rotation matrices), betas 10, camera with z / 200.
            times: their frame indices, not descending.
            time_to_predict: frames each track has been lost for, 0 for tracks matched in this frame.
            upstream_quirks: read every row at the time slot of the first track, as the official code does.
        """


@runtime_checkable
class BodyModel(Protocol):
    """SMPL's skinned mesh, for overlays and for the joints of predicted people."""

    @property
    def faces(self) -> Int64[ndarray, "f 3"]:
        """Vertex indices of the triangles."""

    def vertices(
        self,
        global_orient: Float32[ndarray, "n 1 3 3"],
        body_pose: Float32[ndarray, "n 23 3 3"],
        betas: Float32[ndarray, "n 10"],
    ) -> Float32[ndarray, "n v 3"]:
        """Posed vertices, metres, body frame without translation."""

    def joints(
        self,
        global_orient: Float32[ndarray, "n 1 3 3"],
        body_pose: Float32[ndarray, "n 23 3 3"],
        betas: Float32[ndarray, "n 10"],
    ) -> tuple[Float32[ndarray, "n 44 3"], Float32[ndarray, "n 24 3"]]:
        """HMR2's 44 joints and SMPL's own 24, metres, body frame without translation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerOptions:
    """Per-job choices of an engine's own tracker, PHALP's names and defaults.

    Attributes:
        n_init: measurements that confirm a track.
        max_age_track: frames a lost track is kept.
        hungarian_th: a match must not cost more than this.
        alpha: weight of new texture, times score squared.
        track_history: observations kept per track.
        predict: what is predicted: texture, pose, location; of the others the last one seen is expected.
    """

    n_init: int = 5
    max_age_track: int = 50
    hungarian_th: float = 100.0
    alpha: float = 0.1
    track_history: int = 7
    predict: str = "TPL"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackState:
    """One live track of an engine's own tracker after a frame.

    Attributes:
        track_id: from 1, unique in the job.
        detection: index among the frame's people, or None if the track was not seen in it.
        confirmed: seen often enough to be reported.
        expected_pose: pose vector that was expected in this frame; None if it was seen.
        expected_location: location vector that was expected in this frame; None if it was seen.
    """

    track_id: int
    detection: int | None
    confirmed: bool
    expected_pose: Float32[ndarray, "229"] | None = None
    expected_location: Float32[ndarray, "99"] | None = None


@runtime_checkable
class FrameTracker(Protocol):
    """The tracker of one job: remembers its live tracks and nothing else."""

    def update(self, people: Sequence[Texture], frame_index: int, *, shot: bool) -> list[TrackState]:
        """Take the people of the next frame; the live tracks after it, oldest first.

        Args:
            people: what perception gave as `textures`, by which the engine knows its own people.
            frame_index: grows by one.
            shot: a new shot begins here.

        Raises:
            DeviceOutOfMemory: one comparison of textures alone does not fit.
            DeviceFault: the device needs a new process.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One weight file behind a loaded model: what it is for, its name and its SHA-256."""

    role: str
    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsDescription:
    """What a result says about the models that made it.

    Attributes:
        models: `official` or `lite`.
        engine: `native` (our own inference) or `upstream` (the official packages).
        detector: name of the detector.
        backbone: name of HMR2's backbone (`vit`, `blazepose`).
        body_model: name of the body (`smpl` or the free body).
        precision: `fp32` or `bf16`.
        device: `cpu`, or the name of the GPU.
        files: the weight files with their hashes.
        notice: a plain sentence about accuracy or licence that every result carries; may be empty.
    """

    models: str
    engine: str
    detector: str
    backbone: str
    body_model: str
    precision: str
    device: str
    files: tuple[ModelFile, ...]
    notice: str


@runtime_checkable
class Models(Protocol):
    """Everything a worker has loaded; no state of any job."""

    @property
    def perception(self) -> Perception: ...  # noqa: D102 - documented at its type

    @property
    def texture(self) -> TextureModel:
        """For the worker's tracker; not asked where `begin_tracking` gives one."""

    @property
    def pose_predictor(self) -> PosePredictor:
        """For the worker's tracker; not asked where `begin_tracking` gives one."""

    @property
    def body(self) -> BodyModel: ...  # noqa: D102 - as above

    @property
    def description(self) -> ModelsDescription: ...  # noqa: D102 - as above

    @property
    def most_frames(self) -> int | None:
        """Frames that perception should get at once, at most; None for no limit."""

    def begin_tracking(self, options: TrackerOptions) -> FrameTracker | None:
        """The engine's own tracker for one job, its identities from 1; None if the worker's is to be used."""

    def clear_cache(self) -> None:
        """Give unused device memory back (`torch.cuda.empty_cache`); cheap and harmless on the CPU."""

    def peak_device_bytes(self) -> int | None:
        """Most device memory in use since the last call of this method; None without a GPU."""
