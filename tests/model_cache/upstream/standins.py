"""Stand-ins for the official objects, with their methods and their habits, for tests without the packages."""

from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from model_cache.interfaces import TrackerOptions
from tests.fakes import rectangles


class StandInTrack:
    """One official track: a deque of predictions for each vector, a state, a count of missed frames."""

    def __init__(self, track_id: int, data: dict[str, Any], n_init: int) -> None:
        self.track_id = track_id
        self.hits = 1
        self.time_since_update = 0
        self.n_init = n_init
        self.name = data["name"]
        self.track_data = {"history": [data], "prediction": {"pose": [data["pose"]], "loca": [data["loca"]]}}

    def is_confirmed(self) -> bool:
        return self.hits >= self.n_init


class StandInTracker:
    """Matches people by name; keeps every frame's association, as the official tracker does."""

    def __init__(self, n_init=3, max_age=4, before: Callable[[int], None] = lambda index: None) -> None:
        self.tracks: list[StandInTrack] = []
        self.tracked_cost: dict[int, list[Any]] = {}
        self.shots: list[int] = []
        self.times: list[int] = []
        self._next_id = 1
        self._n_init, self._max_age = n_init, max_age
        self._before = before  # may raise

    def predict(self) -> None:
        for track in self.tracks:
            track.time_since_update += 1

    def update(self, detections: list[Any], frame_t: int, image_name: str, shot: int) -> None:
        self._before(frame_t)
        self.shots.append(shot)
        self.times += [d.detection_data["time"] for d in detections]
        names = [d.detection_data["name"] for d in detections]
        matches = [(row, names.index(t.name)) for row, t in enumerate(self.tracks) if t.name in names]
        known = {t.name for t in self.tracks}
        new = [column for column, name in enumerate(names) if name not in known]
        cost = np.ones((len(self.tracks), len(names))) if self.tracks and names else 0
        self.tracked_cost[frame_t] = [cost, matches, [], new, [], [], [], []]
        for row, column in matches:
            track, data = self.tracks[row], detections[column].detection_data
            track.hits += 1
            track.time_since_update = 0
            track.track_data["history"] = [data]
            track.track_data["prediction"]["pose"] = [data["pose"] + 1]
        for column in new:
            self.tracks.append(StandInTrack(self._next_id, detections[column].detection_data, self._n_init))
            self._next_id += 1
        limit = self._max_age
        self.tracks = [t for t in self.tracks if t.time_since_update <= (limit if t.is_confirmed() else 0)]


def stand_in_config() -> Any:
    """As much of the official settings as is read here."""
    limits = asdict(TrackerOptions()) | {"shot": 0, "low_th_c": 0.8, "small_w": 50, "small_h": 100}
    return SimpleNamespace(phalp=SimpleNamespace(**limits, past_lookback=1))


def stand_in_detection(name: str, *, pose: float = 0.0) -> Any:
    """An official `Detection` of somebody."""
    vectors = {"pose": np.full(229, pose, np.float32), "loca": np.full(99, 0.5, np.float32)}
    return SimpleNamespace(detection_data={"name": name, "time": -1, **vectors})


class StandInModel:
    """The two methods of `HMR2_4dhuman` that perception calls; who is there is said by `people`."""

    def __init__(self, boxes: list[list[float]], scores: list[float], betas: float = 0.0) -> None:
        self.cfg = stand_in_config()
        self.detector: Any = None
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self.scores = np.array(scores, np.float32)
        self.betas = betas

    def get_detections(self, image: Any, name: str, t: int, additional: Any, measurements: Any) -> Any:
        self.detector(image)
        kept = self.scores > self.cfg.phalp.low_th_c
        boxes, scores = self.boxes[kept], self.scores[kept]
        masks = np.ones((len(boxes), *image.shape[:2]), bool)
        padded = boxes + np.array([-1, -1, 1, 1], np.float32)
        num = len(boxes)
        return boxes, padded, masks, scores, np.zeros(num, int), [1] * num, [[]] * num

    def get_human_features(self, image, masks, boxes, padded, scores, *rest: Any) -> list[Any]:
        *_, extra = rest
        found = []
        for row, box in enumerate(boxes):
            data = {
                "smpl": {
                    "global_orient": np.eye(3, dtype=np.float32)[None],
                    "body_pose": np.tile(np.eye(3, dtype=np.float32), (23, 1, 1)),
                    "betas": np.full(10, self.betas, np.float32),
                },
                "camera_bbox": np.array([1, 0, 0], np.float32),
                "3d_joints": np.zeros((45, 3), np.float32),
                "mask": [{"counts": f"mask of {box[0]:.0f}"}],
                "appe": np.full(16, scores[row], np.float32),
                "extra_data": extra[row],
            }
            found.append(SimpleNamespace(detection_data=data))
        return found


class ColourModel(StandInModel):
    """Finds the people of `tests.fakes.draw_people`; `before` sees the index of every frame and may raise."""

    def __init__(self, before: Callable[[int], None] = lambda index: None) -> None:
        super().__init__([], [])
        self.seen: list[int] = []
        self._before = before

    def get_detections(self, image: Any, name: str, t: int, *rest: Any) -> Any:
        self.seen.append(t)
        self._before(t)
        boxes = [box for *box, _ in rectangles(image)]
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self.scores = np.full(len(boxes), 0.95, np.float32)
        return super().get_detections(image, name, t, *rest)

    def get_human_features(self, image: Any, masks: Any, boxes: Any, *rest: Any) -> list[Any]:
        names = {tuple(box): name for *box, name in rectangles(image)}
        found = super().get_human_features(image, masks, boxes, *rest)
        for detection, box in zip(found, boxes.astype(int).tolist(), strict=True):
            official = stand_in_detection(names[tuple(box)])
            detection.detection_data = official.detection_data | detection.detection_data
        return found


OUT_OF_MEMORY = torch.OutOfMemoryError("stand-in")
