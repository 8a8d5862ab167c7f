"""People's texture maps: encoded as PHALP's appearance vectors, compared, mixed and copied where they lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray
from torch import Tensor, nn
from torch.nn import functional

from model_cache.errors import DeviceOutOfMemory, ModelOutputInvalid, WeightsInvalid
from model_cache.interfaces import Texture
from model_cache.networks.device import device_faults, to_device, to_host

NUM_TEXTURE_CHANNELS = 4  # three colours and a mask
POOLED_LAYERS = ("conv1x", "conv2", "conv3", "conv4")
LAYERS = (*POOLED_LAYERS, "conv5", "conv5_1")  # HMAR's own names
MAPS_AT_ONCE_ON_CPU = 4  # with their layers as much as a cache holds; 24 at once take 1.7 times as long
ENCODING_DIVISOR = 1000.0  # PHALP's scale of appearance vectors in the cost
DISTANCE_FACTOR = 100.0
PAIRS_AT_ONCE = {"cpu": 2, "cuda": 32}  # two encoder passes each, about 10 MB each while they run


class AppearanceEncoder(nn.Module):
    """HMAR's texture encoder: six 3x3 convolutions, the first four halve the map.

    Computes in float32, since the tracker compares small differences of its output.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:  # official (16, 64, 128, 256, 256, 16)
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

        Textures are UV maps of `TextureSampler`. The tracker's comparison gives maps that are zero in all
        channels where they are not compared.
        """
        if textures.device.type != "cpu":
            return self._encode(textures)
        # oneDNN runs these layers two to three times faster with the channels innermost
        parts = torch.split(textures, MAPS_AT_ONCE_ON_CPU)
        return torch.cat([self._encode(part.contiguous(memory_format=torch.channels_last)) for part in parts])

    def _encode(self, maps: Float32[Tensor, "b 4 rows columns"]) -> Float32[Tensor, "b a"]:
        with torch.autocast(maps.device.type, enabled=False):
            for name in LAYERS:
                maps = self.get_submodule(name)(maps)
                if name in POOLED_LAYERS:
                    maps = functional.max_pool2d(maps, 2)
                maps = maps.relu_()  # after the pooling: the same numbers on a quarter of the cells
        return maps.flatten(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class UvTexture:
    """One person's texture map on the models' device, 1 MB; a handle that only `UvTextureModel` opens.

    Fresh from perception it is a view into its batch, which lives as long as any view of it; whatever is
    kept longer than its frame must be a copy.
    """

    texels: Float32[Tensor, "4 rows columns"]  # three colours and a mask of -1 and 1, PHALP's `uv`


class UvTextureModel:
    """`TextureModel` with PHALP's appearance encoder, which is on the device where the textures lie.

    Every method may raise `DeviceFault`.
    """

    def __init__(self, encoder: AppearanceEncoder) -> None:
        self._encoder = encoder

    @torch.inference_mode()
    def distance(
        self, tracks: Sequence[Texture], detections: Sequence[Texture], pairs: Int64[ndarray, "p 2"]
    ) -> Float64[ndarray, " p"]:
        """PHALP's `r_texture` of (track, detection) index pairs, unbounded; 0 is identical.

        Both maps of a pair are cut to the texels that both show, so nothing can be computed ahead of the
        pair. Pairs are encoded a few at once, fewer where memory is short; the sum is PHALP's, in float32.

        Raises:
            DeviceOutOfMemory: not even one pair fits.
            ModelOutputInvalid: the encoder gave numbers that are not finite.
        """
        if not len(pairs):
            return np.zeros(0)
        track_rows, track_of_pair = np.unique(pairs[:, 0], return_inverse=True)
        detection_rows, detection_of_pair = np.unique(pairs[:, 1], return_inverse=True)
        of_tracks = [_open(tracks[row]) for row in track_rows]
        of_detections = [_open(detections[row]) for row in detection_rows]
        device = of_tracks[0].device
        at_once = PAIRS_AT_ONCE[device.type]
        while at_once:
            try:
                with device_faults():
                    track_maps, detection_maps = torch.stack(of_tracks), torch.stack(of_detections)
                    (indices,) = to_device([np.stack([track_of_pair, detection_of_pair])], device)
                    parts = [
                        self._distance(track_maps[of_track], detection_maps[of_detection])
                        for of_track, of_detection in torch.split(indices, at_once, dim=1)
                    ]
                    (found,) = to_host(torch.cat(parts))
                break
            except DeviceOutOfMemory:
                at_once //= 2
        else:
            raise DeviceOutOfMemory("one pair of textures cannot be compared in the device's free memory")
        if not np.isfinite(found).all():
            raise ModelOutputInvalid("the appearance encoder gave numbers that are not finite")
        return found.astype(np.float64)

    @device_faults()
    def mix(self, track: Texture, detection: Texture, score: float, *, alpha: float = 0.1) -> Texture:
        """The track's texture after seeing the detection, in the track's own memory.

        Where both show a texel the new colour weighs `alpha * score**2`; where only the detection does, its
        colour is taken. Right since a texture's colours are zero wherever its mask is -1.
        """
        mix_in_place(_open(track), _open(detection), weight=alpha * score**2)
        return track

    @device_faults()
    @torch.inference_mode()
    def copy(self, texture: Texture) -> Texture:
        """An independent copy, which keeps no batch alive."""
        return UvTexture(texels=_open(texture).clone())

    def _distance(
        self, tracks: Float32[Tensor, "p 4 rows columns"], detections: Float32[Tensor, "p 4 rows columns"]
    ) -> Float32[Tensor, " p"]:
        shared = (tracks[:, 3:] > 0.5) & (detections[:, 3:] > 0.5)
        maps = torch.cat([torch.where(shared, tracks, 0), torch.where(shared, detections, 0)])
        encodings: Tensor = self._encoder(maps) / ENCODING_DIVISOR
        of_tracks, of_detections = encodings.chunk(2)
        return DISTANCE_FACTOR * (of_tracks - of_detections).square().sum(1)


@torch.inference_mode()
def mix_in_place(
    old: Float32[Tensor, "4 rows columns"], new: Float32[Tensor, "4 rows columns"], *, weight: float
) -> None:
    """Moves `old` towards `new` where both show a texel, and adds what only `new` shows."""
    of_new = torch.where(old[3] > 0, weight, 1.0) * (new[3] > 0)
    old[:3].lerp_(new[:3], of_new)
    torch.maximum(old[3], new[3], out=old[3])


def _open(texture: Texture) -> Float32[Tensor, "4 rows columns"]:
    if not isinstance(texture, UvTexture):
        raise TypeError(f"a texture of these models is needed, not a {type(texture).__name__}")
    return texture.texels
