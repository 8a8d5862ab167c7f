"""PHALP's pose predictor as the handler sees it: arrays in, arrays out."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from numpy import ndarray

from model_cache.errors import DeviceOutOfMemory, ModelOutputInvalid
from model_cache.networks.device import device_faults, to_device, to_host
from model_cache.networks.pose_transformer import PoseTransformer


class TransformerPosePredictor:
    """`PosePredictor` by PHALP's pose transformer."""

    def __init__(self, network: PoseTransformer, device: torch.device) -> None:
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = device
        self.frame_length = network.frame_length

    def predict_next(
        self,
        poses: Float32[ndarray, "b t 229"],
        times: Int64[ndarray, "b t"],
        time_to_predict: Int64[ndarray, " b"],
        *,
        upstream_quirks: bool = False,
    ) -> Float32[ndarray, "b 229"]:
        """The pose vector `time_to_predict + 1` frames after each history's last frame.

        A history's first frame is slot 0; `times` must not descend. Frames beyond the last slot share it, the
        newest wins; the official code stops with an error there.

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
        if upstream_quirks:  # the official code reads every row at the slot of the first track
            asked[:] = asked[0]
        repeated = np.diff(slots, axis=1, append=-1) == 0
        newest = np.where(repeated, slots.shape[1], np.arange(slots.shape[1]))  # the last entry of each slot
        newest = np.minimum.accumulate(newest[:, ::-1], axis=1)[:, ::-1]
        poses = np.take_along_axis(poses, newest[..., None], axis=1)
        try:
            with torch.inference_mode(), device_faults():
                (given,) = to_device([poses], self._device)
                (blocked,) = to_device([repeated], self._device)
                at, wanted = to_device([slots, asked[:, None]], self._device)
                tokens = self._network.tokens(given, at, blocked, wanted)
                predicted: Float32[ndarray, "b 229"]
                (predicted,) = to_host(self._network.read_out(tokens[:, 0]))
        except DeviceOutOfMemory as exc:
            raise DeviceOutOfMemory(f"no memory to predict the poses of {len(slots)} tracks") from exc
        if not np.isfinite(predicted).all():
            raise ModelOutputInvalid("the pose predictor gave numbers that are not finite")
        return predicted
