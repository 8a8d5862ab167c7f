"""The official pose predictor and texture comparison, for our own tracker on the official networks."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

from model_cache.interfaces import Texture
from model_cache.networks.device import device_faults
from model_cache.upstream.people import OfficialTexture, uv_of
from model_cache.upstream.shims import Official, on_device

_DISTANCE_FACTOR = 100  # PHALP: nn_matching.py, _pdist


class UpstreamPosePredictor:
    """`PosePredictor` by `forward_for_tracking`.

    Args:
        model: `HMR2_4dhuman` with its networks.
        device: where they are.
    """

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device

    @property
    def frame_length(self) -> int:
        """Time slots of the transformer."""
        return int(self._model.pose_predictor.cfg.frame_length)

    def predict_next(
        self,
        poses: Float32[ndarray, "b t 229"],
        times: Int64[ndarray, "b t"],
        time_to_predict: Int64[ndarray, " b"],
        *,
        upstream_quirks: bool = False,
    ) -> Float32[ndarray, "b 229"]:
        """Expected pose vectors; without the quirk each row is a batch of its own."""
        if not len(poses):
            return np.zeros((0, 229), np.float32)
        size = len(poses) if upstream_quirks else 1
        with device_faults(), on_device(self._device):
            rows = [
                self._model.forward_for_tracking(
                    [poses[i : i + size], np.zeros((size, poses.shape[1], 6)), times[i : i + size]],
                    "P",
                    time_to_predict[i : i + size],
                )
                for i in range(0, len(poses), size)
            ]
        return torch.cat(rows).float().cpu().numpy()


class UpstreamTextures:
    """`TextureModel` by `get_uv_distance` and the official track's own mixing.

    Args:
        official: the packages.
        model: `HMR2_4dhuman` with its networks.
        device: where they are.
    """

    def __init__(self, official: Official, model: Any, device: torch.device) -> None:
        self._official = official
        self._model = model
        self._device = device

    def distance(
        self, tracks: Sequence[Texture], detections: Sequence[Texture], pairs: Int64[ndarray, "p 2"]
    ) -> Float64[ndarray, " p"]:
        """PHALP's `r_texture` of (track, detection) index pairs."""
        found = np.zeros(len(pairs))
        with device_faults(), on_device(self._device):
            for row, (track, detection) in enumerate(pairs.tolist()):
                of_track, of_detection, _ = self._model.get_uv_distance(
                    uv_of(tracks[track]).copy(), uv_of(detections[detection]).copy()
                )
                found[row] = np.sum((of_track - of_detection) ** 2) * _DISTANCE_FACTOR
        return found

    def mix(self, track: Texture, detection: Texture, score: float, *, alpha: float = 0.1) -> Texture:
        """The track's texture after seeing the detection."""
        config = copy.copy(self._model.cfg)
        config.phalp = copy.copy(config.phalp)
        config.phalp.alpha = alpha
        nobody: dict[str, Any] = {"appe": None, "loca": None, "pose": None, "annotations": [], "time": 0}
        seen = {**nobody, "uv": uv_of(detection), "conf": np.float32(score)}
        mixer = self._official.track.Track(config, 0, 1, 1, detection_data={**nobody, "uv": uv_of(track)})
        mixer.update(_Seen(seen), 0, 0)
        return OfficialTexture(uv=mixer.track_data["prediction"]["uv"][-1])

    def copy(self, texture: Texture) -> Texture:
        """An independent copy."""
        return OfficialTexture(uv=uv_of(texture).copy())


class _Seen:
    """As much of a `Detection` as the official mixing reads."""

    def __init__(self, detection_data: dict[str, Any]) -> None:
        self.detection_data = detection_data
