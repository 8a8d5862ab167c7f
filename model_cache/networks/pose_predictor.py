"""PHALP's pose predictor as the handler sees it: numpy in, numpy out. Knows nothing of track life or jobs."""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from numpy import ndarray

from model_cache.errors import DeviceOutOfMemory, ModelOutputInvalid
from model_cache.networks.device import device_faults
from model_cache.networks.hmr2 import exact_float32
from model_cache.networks.pose_transformer import PoseTransformer

SMOOTHING_STEP = 32  # frames given by each window (LART's smoothing)
SMOOTHING_MARGIN = 32  # frames of context before and after them


class TransformerPosePredictor:
    """Poses of the next frame, and smoothed tracks, by PHALP's pose transformer.

    Keeps the promise `PosePredictor`.
    """

    def __init__(self, network: PoseTransformer, device: torch.device) -> None:
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = device

    @property
    def frame_length(self) -> int:
        """Time slots of the transformer (official 125)."""
        return self._network.frame_length

    def predict_next(
        self,
        poses: Float32[ndarray, "b t 229"],
        times: Int64[ndarray, "b t"],
        time_to_predict: Int64[ndarray, " b"],
        *,
        upstream_quirks: bool = False,
    ) -> Float32[ndarray, "b 229"]:
        """The pose vector `time_to_predict + 1` frames after each history's last frame.

        A history's first frame is slot 0. Frames beyond the last slot share it, the newest wins; the official
        code stops with an error there.

        Args:
            poses: the last t pose vectors of each track, oldest first, camera with z / 200.
            times: their frame indices, not descending.
            time_to_predict: frames each track has been lost for.
            upstream_quirks: read every row at the time slot of the first track, as the official code does.

        Raises:
            DeviceOutOfMemory: the batch does not fit on the device.
            DeviceFault: the device needs a new process.
            ModelOutputInvalid: the network gave numbers that are not finite.
        """
        if len(times) == 0:
            return np.empty((0, 229), np.float32)
        last_slot = self.frame_length - 1
        slots = np.minimum(times - times[:, :1], last_slot)
        asked = np.minimum(slots[:, -1] + time_to_predict + 1, last_slot)
        if upstream_quirks:
            asked = np.full_like(asked, asked[0])
        repeated = np.zeros(slots.shape, bool)
        repeated[:, :-1] = slots[:, :-1] == slots[:, 1:]
        newest = np.where(repeated, slots.shape[1], np.arange(slots.shape[1]))  # the last entry of each slot
        newest = np.minimum.accumulate(newest[:, ::-1], axis=1)[:, ::-1]
        poses = np.take_along_axis(poses, newest[..., None], axis=1)
        return self._decode(poses, slots, repeated, asked[:, None])[:, 0]

    def smooth(
        self, poses: Float32[ndarray, "t 229"], present: Bool[ndarray, " t"]
    ) -> Float32[ndarray, "t 229"]:
        """The track as the transformer sees it, every frame filled, in windows with context on both sides.

        Args:
            poses: one pose vector per frame from the track's first to its last, camera with z / 200; what
                stands where nobody was measured does not matter.
            present: frames in which the person was measured.

        Returns:
            Pose vectors; the camera is in the same units (z / 200).

        Raises:
            DeviceOutOfMemory: a window does not fit on the device.
            DeviceFault: the device needs a new process.
            ModelOutputInvalid: the network gave numbers that are not finite.

        Source: LART's `smooth_tracks` with its defaults.
        """
        if self.frame_length <= 2 * SMOOTHING_MARGIN + SMOOTHING_STEP:
            raise ValueError(f"smoothing needs more than the {self.frame_length} slots of this network")
        smoothed = np.empty_like(poses)
        for begin in range(0, len(poses), SMOOTHING_STEP):
            end = min(begin + SMOOTHING_STEP, len(poses))
            first = max(0, begin - SMOOTHING_MARGIN)
            seen = first + np.flatnonzero(present[first : begin + SMOOTHING_STEP + SMOOTHING_MARGIN])
            slots = (seen - first)[None]
            smoothed[begin:end] = self._decode(
                poses[seen][None],
                slots,
                np.zeros(slots.shape, bool),
                np.arange(begin - first, end - first)[None],
            )[0]
        return smoothed

    def _decode(
        self,
        poses: Float32[ndarray, "b k 229"],
        slots: Int64[ndarray, "b k"],
        repeated: Bool[ndarray, "b k"],
        asked: Int64[ndarray, "b q"],
    ) -> Float32[ndarray, "b q 229"]:
        try:
            with torch.inference_mode(), exact_float32(), device_faults():
                tokens = self._network.tokens(
                    *(torch.from_numpy(array).to(self._device) for array in (poses, slots, repeated, asked))
                )
                decoded = self._network.read_out(tokens.flatten(0, 1)).cpu().numpy()
        except torch.OutOfMemoryError as exc:
            raise DeviceOutOfMemory(f"no memory to predict the poses of {len(slots)} tracks") from exc
        if not np.isfinite(decoded).all():
            raise ModelOutputInvalid("the pose predictor gave numbers that are not finite")
        vectors: Float32[ndarray, "b q 229"] = decoded.reshape(*asked.shape, -1)
        return vectors
