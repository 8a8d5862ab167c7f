"""Turns a person's texture map into PHALP's appearance vector."""

from collections.abc import Mapping

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

from model_cache.errors import WeightsInvalid
from model_cache.networks.device import exact_float32

NUM_TEXTURE_CHANNELS = 4  # three colours and a mask
POOLED_LAYERS = ("conv1x", "conv2", "conv3", "conv4")
LAYERS = (*POOLED_LAYERS, "conv5", "conv5_1")  # HMAR's own names
MAPS_AT_ONCE_ON_CPU = 4  # with their layers as much as a cache holds; 24 at once take 1.7 times as long


class AppearanceEncoder(nn.Module):
    """HMAR's texture encoder: six 3x3 convolutions, the first four halve the map.

    Computes in float32 without TF32, since the tracker compares small differences of its output.

    Args:
        widths: output channels of the six layers; official (16, 64, 128, 256, 256, 16).
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (NUM_TEXTURE_CHANNELS, *widths[:-1])
        for name, num_in, num_out in zip(LAYERS, inputs, widths, strict=True):
            self.add_module(name, nn.Conv2d(num_in, num_out, kernel_size=3, padding=1))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "AppearanceEncoder":
        """The encoder that these tensors describe; its widths are theirs, other keys are left alone.

        Raises:
            WeightsInvalid: a tensor is missing or does not fit its neighbours.
        """
        keys = [f"{name}.{kind}" for name in LAYERS for kind in ("weight", "bias")]
        missing = [key for key in keys if key not in state]
        if missing:
            raise WeightsInvalid(f"the appearance encoder lacks {', '.join(missing)}")
        encoder = cls(tuple(len(state[f"{name}.bias"]) for name in LAYERS))
        try:
            encoder.load_state_dict({key: state[key] for key in keys})
        except RuntimeError as error:
            raise WeightsInvalid(f"the appearance encoder's layers do not fit together: {error}") from error
        return encoder.float().eval().requires_grad_(False)

    def forward(self, textures: Float32[Tensor, "b 4 rows columns"]) -> Float32[Tensor, "b a"]:
        """Appearance vectors, not negative, of last width times rows/16 times columns/16 (official 4096).

        Args:
            textures: UV maps of `TextureSampler`: colours, then a mask of -1 and 1. The tracker's comparison
                gives maps that are zero in all channels where they are not compared.
        """
        if textures.device.type != "cpu":
            return self._encode(textures)
        # oneDNN runs these layers two to three times faster with the channels innermost
        parts = torch.split(textures, MAPS_AT_ONCE_ON_CPU)
        return torch.cat([self._encode(part.contiguous(memory_format=torch.channels_last)) for part in parts])

    def _encode(self, maps: Float32[Tensor, "b 4 rows columns"]) -> Float32[Tensor, "b a"]:
        with exact_float32(), torch.autocast(maps.device.type, enabled=False):
            for name in LAYERS:
                maps = self.get_submodule(name)(maps)
                if name in POOLED_LAYERS:
                    maps = functional.max_pool2d(maps, 2)
                maps = maps.relu_()  # after the pooling: the same numbers on a quarter of the cells
        return maps.flatten(1)
