"""PHALP and simpler trackers on the same found people, and PHALP with one term of its cost taken away.

A term is taken away where the tracker gets its input, so that the tracker itself has no switch for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

from benchmarks.accuracy_clip import Tracked
from benchmarks.accuracy_people import TRACKING
from benchmarks.accuracy_scores import box_iou, match
from handler.job import TrackingOptions
from handler.people.track import track
from handler.records import PeopleInFrame, PlacedPeople
from model_cache.interfaces import Models, PosePredictor, Texture, TextureModel

PHALP, OVERLAP = "PHALP", "overlap of boxes"
OVERLAP_FLOOR = 0.3
PATIENCE = 25  # frames for which the overlap tracker keeps a lost track

Frames = Sequence[PeopleInFrame]
Tracker = Callable[[Frames], list[Tracked]]


def trackers(models: Models) -> dict[str, Tracker]:
    """What the table compares, by name; `PHALP` is what jobs use."""
    texture, predictor = models.texture, models.pose_predictor
    ours, quirks = TRACKING, TRACKING.model_copy(update={"upstream_quirks": True})
    return {
        PHALP: lambda frames: phalp(frames, texture, predictor, ours),
        "  official bugs": lambda frames: phalp(frames, texture, predictor, quirks),
        "  no texture term": lambda frames: phalp(frames, AnyTexture(), predictor, ours),
        "  no pose term": lambda frames: phalp(in_one_pose(frames), texture, SamePose(predictor), ours),
        "  no location term": lambda frames: phalp(in_one_place(frames), texture, predictor, ours),
        OVERLAP: overlap,
    }


def phalp(
    frames: Frames, texture: TextureModel, predictor: PosePredictor, options: TrackingOptions
) -> list[Tracked]:
    """The worker's tracker; measured people only."""
    followed = []
    for before, frame in zip(frames, track(iter(frames), texture, predictor, options), strict=True):
        rows = {index: row for row, index in enumerate(before.people.detection_index.tolist())}
        seen = frame.people.take(np.flatnonzero(frame.people.measured))
        followed.append(
            Tracked(
                rows=np.array([rows[index] for index in seen.detection_index.tolist()], np.int64),
                ids=seen.track_ids,
            )
        )
    return followed


def overlap(frames: Frames) -> list[Tracked]:
    """The simplest tracker: the box that overlaps a track's last box most goes on with it."""
    followed = []
    tracks: dict[int, tuple[int, Float64[ndarray, "4"]]] = {}
    next_id = 1
    for index, frame in enumerate(frames):
        boxes = frame.people.bbox_xyxy.astype(np.float64)
        tracks = {key: value for key, value in tracks.items() if index - value[0] <= PATIENCE}
        ids = np.zeros(len(boxes), np.int64)
        if tracks and len(boxes):
            keys = list(tracks)
            by_box = box_iou(np.stack([tracks[key][1] for key in keys]), boxes)
            for row, column in match(by_box, OVERLAP_FLOOR):
                ids[column] = keys[row]
        for column in np.flatnonzero(ids == 0):
            ids[column], next_id = next_id, next_id + 1
        tracks |= {int(key): (index, box) for key, box in zip(ids, boxes, strict=True)}
        followed.append(Tracked(rows=np.arange(len(boxes)), ids=ids))
    return followed


def in_one_pose(frames: Frames) -> list[PeopleInFrame]:
    """Everybody in the same pose and shape, where they are: with `SamePose` all poses are 0 apart."""
    upright = np.eye(3, dtype=np.float32)

    def stand(people: PlacedPeople) -> PlacedPeople:
        rotations = np.broadcast_to(upright, people.rotations.shape)
        return replace(people, rotations=rotations, betas=np.zeros_like(people.betas))

    return _changed(frames, stand)


def in_one_place(frames: Frames) -> list[PeopleInFrame]:
    """Everybody in the middle of the canvas at one depth, in their own poses: all places are 0 apart."""

    def move(people: PlacedPeople) -> PlacedPeople:
        place = np.array([0, 0, 50], np.float32)
        return replace(
            people,
            cam_t=np.broadcast_to(place, people.cam_t.shape),
            joints_2d=np.full_like(people.joints_2d, 0.5),
        )

    return _changed(frames, move)


def _changed(frames: Frames, change: Callable[[PlacedPeople], PlacedPeople]) -> list[PeopleInFrame]:
    return [replace(frame, people=change(frame.people)) for frame in frames]


class SamePose:
    """A `PosePredictor` that expects the last pose again."""

    def __init__(self, predictor: PosePredictor) -> None:
        self.frame_length = predictor.frame_length

    def predict_next(
        self,
        poses: Float32[ndarray, "b t 229"],
        times: Int64[ndarray, "b t"],
        time_to_predict: Int64[ndarray, " b"],
        *,
        upstream_quirks: bool = False,
    ) -> Float32[ndarray, "b 229"]:
        """The last pose of each history."""
        return poses[:, -1].copy()


class AnyTexture:
    """A `TextureModel` that finds all people alike."""

    def distance(
        self, tracks: Sequence[Texture], detections: Sequence[Texture], pairs: Int64[ndarray, "p 2"]
    ) -> Float64[ndarray, " p"]:
        """Zero for every pair."""
        return np.zeros(len(pairs))

    def mix(self, track: Texture, detection: Texture, score: float, *, alpha: float = 0.1) -> Texture:
        """The track's texture, unchanged."""
        return track

    def copy(self, texture: Texture) -> Texture:
        """The texture itself."""
        return texture
