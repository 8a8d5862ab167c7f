"""PHALP's own tracker, fed one frame at a time.

Bounded: the official tracker remembers every frame's costs and assignments (`tracked_cost`); they are taken
out of it after each frame. Its live tracks are bounded by themselves, about 20 MB each.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from model_cache.errors import DeviceOutOfMemory
from model_cache.interfaces import Texture, TrackerOptions, TrackState
from model_cache.networks.device import device_faults
from model_cache.upstream.perception import OfficialPerson
from model_cache.upstream.shims import Official, on_device

VECTOR_SIZES = (4096, 4096, 99)  # PHALP: setup_deepsort; stored, not used


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAssociation:
    """What the official tracker decided in one frame; indices into the tracks before it.

    Attributes:
        ids: the tracks before the frame.
        cost: clamped costs; (0, 0) where there was nothing to compare.
        matches: (track, detection) pairs.
        new: detections that began tracks, in the order of their identities.
    """

    ids: list[int]
    cost: Float[ndarray, "t d"]
    matches: list[tuple[int, int]]
    new: list[int]


def job_settings(config: Any, options: TrackerOptions) -> Any:
    """The official settings with a job's options, in a copy of its own."""
    config = copy.deepcopy(config)
    for name, value in asdict(options).items():  # they have PHALP's names
        setattr(config.phalp, name, value)
    return config


def official_tracker(official: Official, model: Any, config: Any) -> Any:
    """A new PHALP tracker, as `setup_deepsort` makes it, with settings of its own."""
    limits = config.phalp
    metric = official.metric.NearestNeighborDistanceMetric(config, limits.hungarian_th, limits.past_lookback)
    return official.tracker.Tracker(
        config,
        metric,
        max_age=limits.max_age_track,
        n_init=limits.n_init,
        phalp_tracker=model,
        dims=list(VECTOR_SIZES),
    )


class UpstreamTracker:
    """`FrameTracker` by PHALP's `Tracker`.

    Args:
        tracker: new, so that identities start at 1.
        config: the settings that `tracker` reads.
        device: where its networks are.

    Attributes:
        last: the newest frame's association.
    """

    def __init__(self, tracker: Any, config: Any, device: torch.device) -> None:
        self._tracker = tracker
        self._config = config
        self._device = device
        self.last: FrameAssociation | None = None

    def update(self, people: Sequence[Texture], frame_index: int, *, shot: bool) -> list[TrackState]:
        """Take the people of the next frame; the live tracks after it, see `FrameTracker`."""
        detections = []
        for person in people:
            if not isinstance(person, OfficialPerson):
                raise TypeError(f"not a person of this engine: {type(person).__name__}")
            person.detection.detection_data["time"] = frame_index  # frames are counted after trim and stride
            detections.append(person.detection)
        expected = {t.track_id: _expected(t) for t in self._tracker.tracks}
        self._config.phalp.shot = int(shot)
        try:
            with device_faults(), on_device(self._device), torch.no_grad():
                self._tracker.predict()
                self._tracker.update(detections, frame_index, str(frame_index), int(shot))
        except DeviceOutOfMemory as error:
            raise DeviceOutOfMemory("one pair of textures does not fit on the device") from error
        self.last = self._take_association(frame_index, list(expected))
        seen = {self.last.ids[track]: detection for track, detection in self.last.matches}
        begun = iter(self.last.new)
        states = []
        for track in self._tracker.tracks:
            if track.track_id not in expected:
                seen[track.track_id] = next(begun)
            detection = seen.get(track.track_id)
            pose, location = expected[track.track_id] if detection is None else (None, None)
            states.append(
                TrackState(
                    track_id=track.track_id,
                    detection=detection,
                    confirmed=track.is_confirmed(),
                    expected_pose=pose,
                    expected_location=location,
                )
            )
        return states

    def _take_association(self, frame_index: int, ids: list[int]) -> FrameAssociation:
        """What was decided in this frame, removed from where the official tracker collects it."""
        cost, matches, _, new, *_ = self._tracker.tracked_cost.pop(frame_index)
        return FrameAssociation(
            ids=ids,
            cost=np.array(cost, np.float64) if np.ndim(cost) else np.zeros((0, 0)),
            matches=[(int(track), int(detection)) for track, detection in matches],
            new=[int(detection) for detection in new],
        )


def _expected(track: Any) -> tuple[ndarray, ndarray]:
    """The pose and location vectors that a track is expected to have in the coming frame."""
    predictions = track.track_data["prediction"]
    return predictions["pose"][-1].astype(np.float32), predictions["loca"][-1].astype(np.float32)
