"""PHALP's official files as our tensors: appearance encoder, pose predictor, UV map.

Official keys: PHALP, phalp/models/heads/encoding_head.py and phalp/models/predictor/pose_transformer_v2.py.
Every function raises `WeightsInvalid` for a file that is not PHALP's, or not of a version that is known here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_cache.errors import WeightsInvalid
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.store.keys import Accounted, account, count_layers, setting, shape_of
from model_cache.store.pickles import read_npy

POSE_SIZE = 229  # global orientation 9, body pose 207, betas 10, camera 3
_NORMALISED = POSE_SIZE - 3  # the camera is not normalised
UV_SIZE = 256
_ENCODER = "encoding_head."
_ENCODER_WIDTHS = (16, 64, 128, 256, 256, 16)
_PREDICTOR = "encoder."
_PREDICTOR_IGNORED = {
    r"transformer\.": "an unused first version of the transformer",
    r"(pos_embedding|pe)$": "an unused table of sines",
    r"class_token$": "its output is dropped",
    r"(smpl_head|loca_head|action_head_\w+)\.": "a further head, not read",
    r"(?!transformer|conv_|pose_shape_|pos_|mask_)": "not part of pose prediction",
}


def appearance_tensors(state: Mapping[str, Tensor], source: str) -> Accounted:
    """The encoder of PHALP's texture autoencoder, keys without the wrapper's name: `conv1x.weight`, ..."""
    inside = {key: key.partition(_ENCODER)[2] for key in state if _ENCODER in key}
    if len(set(inside.values())) < len(inside):
        raise WeightsInvalid(f"{source}: it holds more than one `{_ENCODER}`")
    with torch.device("meta"):
        network = AppearanceEncoder(_ENCODER_WIDTHS)
    needed = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    rules = {r"t_": "the decoder of the autoencoder, which only trains it"}
    encoder = account({inside[key]: state[key] for key in inside}, needed, rules, source)
    ignored = {key: "the old HMAR network, which HMR2 replaces" for key in state if key not in inside}
    ignored |= {key: encoder.ignored[name] for key, name in inside.items() if name in encoder.ignored}
    return Accounted(used=encoder.used, ignored=ignored)


def predictor_tensors(state: Mapping[str, Tensor], source: str) -> Accounted:
    """The pose transformer, keys without the leading `encoder.`.

    The official loader removes `encoder.` wherever it stands, also inside `pose_shape_encoder.`, and so
    leaves that layer untrained.
    """
    prefix = _PREDICTOR if any(key.startswith(_PREDICTOR) for key in state) else ""
    inside = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    found = account(inside, _predictor_shapes(inside, source), _PREDICTOR_IGNORED, source)
    ignored = {prefix + key: reason for key, reason in found.ignored.items()}
    ignored |= {key: "outside of the pose transformer" for key in state if not key.startswith(prefix)}
    return Accounted(used=found.used, ignored=ignored)


def predictor_config(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, int]:
    """What no tensor's shape tells, out of `pose_predictor.yaml`: heads, padding and stride over time."""
    config = config.get("configs", config)
    name = "pose_predictor.yaml"
    extra = setting(config, "extra_feat.enable", "", name)
    if extra:
        raise WeightsInvalid(f"{name}: `extra_feat.enable` is {extra!r}, only poses are supported")
    inner = state["transformer1.layers.0.0.fn.to_qkv.weight"].shape[0] // 3
    frame_length = state["pos_embedding_learned1"].shape[1]
    kernel = state["conv_en.weight"].shape[2]
    heads = setting(config, "transformer.heads", 16, name)
    dim_head = setting(config, "transformer.dim_head", 64, name)
    pad = setting(config, "transformer.conv.pad", 1, name)
    stride = setting(config, "transformer.conv.stride", 5, name)
    if heads * dim_head != inner:
        raise WeightsInvalid(f"{name}: {heads} heads of {dim_head} do not make the checkpoint's {inner}")
    if stride + 2 * pad != kernel or frame_length % stride:
        raise WeightsInvalid(
            f"{name}: stride {stride} and padding {pad} do not fit the checkpoint's kernel of {kernel} "
            f"and {frame_length} frames"
        )
    return {"heads": heads, "conv_pad": pad, "conv_stride": stride}


def pose_statistics(path: Path) -> dict[str, Tensor]:
    """`pose_mean` and `pose_std`, (229,) each; the camera's are 0 and 1."""
    rows = read_npy(path)
    try:
        mean, std = (np.asarray(row, dtype=np.float32).reshape(_NORMALISED) for row in rows)
    except (TypeError, ValueError) as error:
        raise WeightsInvalid(f"{path.name}: a mean and a deviation of 226 numbers are needed") from error
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std >= 0).all()):
        raise WeightsInvalid(f"{path.name}: numbers that no mean and deviation can be")
    return {
        "pose_mean": torch.from_numpy(np.concatenate((mean, np.zeros(3, np.float32)))),
        "pose_std": torch.from_numpy(np.concatenate((std, np.ones(3, np.float32)))),
    }


def uv_map_tensors(barycentric: Path, faces: Path) -> dict[str, Tensor]:
    """`bmap` (256, 256, 3) float32 and `fmap` (256, 256) int64, -1 where the texture has no surface."""
    bmap, fmap = read_npy(barycentric), read_npy(faces)
    if bmap.shape != (UV_SIZE, UV_SIZE, 3) or bmap.dtype.kind != "f":
        raise WeightsInvalid(
            f"{barycentric.name}: (256, 256, 3) floats are needed, not {bmap.shape} {bmap.dtype}"
        )
    whole = fmap.dtype.kind in "iuf" and np.array_equal(fmap, np.round(fmap))
    if fmap.shape != (UV_SIZE, UV_SIZE) or not whole:
        raise WeightsInvalid(f"{faces.name}: (256, 256) integers are needed, not {fmap.shape} {fmap.dtype}")
    return {
        "bmap": torch.from_numpy(bmap.astype(np.float32)),
        "fmap": torch.from_numpy(np.maximum(fmap, -1).astype(np.int64)),
    }


def _predictor_shapes(state: Mapping[str, Tensor], source: str) -> dict[str, tuple[int, ...]]:
    """Every key that inference needs, with its shape, all derived from a few tensors' sizes."""

    def rows(layer: str) -> int:
        return shape_of(state, f"{layer}.weight", 2, source)[0]

    _, frames, dim = shape_of(state, "pos_embedding_learned1", 3, source)
    mid, regressor, actions = (
        rows("pose_shape_encoder.0"),
        rows("smpl_head.0.fc1"),
        rows("action_head_ava.0.0"),
    )
    inner, mlp = rows("transformer1.layers.0.0.fn.to_qkv") // 3, rows("transformer1.layers.0.1.fn.net.0")
    kernel = shape_of(state, "conv_en.weight", 3, source)[2]
    shapes: dict[str, tuple[int, ...]] = {
        "mask_token": (dim,),
        "pos_embedding_learned1": (1, frames, dim),
        "pos_embedding_learned2": (1, frames, dim),
        "smpl_head.0.init_body_pose": (1, 144),
        "smpl_head.0.init_betas": (1, 10),
        "smpl_head.0.init_cam": (1, 3),
    }
    with_bias: dict[str, tuple[int, ...]] = {
        "conv_en": (dim, dim, kernel),
        "conv_de": (dim, dim, kernel),
        "pose_shape_encoder.0": (mid, POSE_SIZE),
        "pose_shape_encoder.2": (dim, mid),
        "smpl_head.0.fc1": (regressor, dim + 157),
        "smpl_head.0.fc2": (regressor, regressor),
        "smpl_head.0.decpose": (144, regressor),
        "smpl_head.0.decshape": (10, regressor),
        "smpl_head.0.deccam": (3, regressor),
        "loca_head.0.0": (dim, dim),
        "loca_head.0.2": (dim, dim),
        "loca_head.0.4": (3, dim),
        "action_head_ava.0.0": (actions, dim),
    }
    layers = [f"transformer1.layers.{index}" for index in range(count_layers(state, "transformer1.layers."))]
    for layer in (*layers, "transformer2.layers.0"):
        shapes[f"{layer}.0.fn.to_qkv.weight"] = (3 * inner, dim)
        with_bias[f"{layer}.0.norm"] = with_bias[f"{layer}.1.norm"] = (dim,)
        with_bias[f"{layer}.0.fn.to_out.0"] = (dim, inner)
        with_bias[f"{layer}.1.fn.net.0"] = (mlp, dim)
        with_bias[f"{layer}.1.fn.net.3"] = (dim, mlp)
    for name, shape in with_bias.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
