"""Official tensors of the pose predictor become our network, its sizes read from their shapes."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from model_cache.errors import WeightsInvalid
from model_cache.networks.pose_transformer import NUM_MEASURED_ENTRIES, PoseTransformer, PoseTransformerConfig

# Official names (LART, without the leading `encoder.`) on the left, in order; `pose_mean` and `pose_std` are
# the two rows of mean_std.npy, with or without those of the camera, which is not normalised.
_NAMES = (
    (r"^pos_embedding_learned([12])$", r"position\1"),
    (r"^pose_shape_encoder\.", "pose_encoder."),
    (r"^transformer1\.layers\.", "layers."),
    (r"^transformer2\.layers\.0\.", "last_layer."),
    (r"\.0\.norm\.", ".attention_norm."),
    (r"^(layers\.\d+|last_layer)\.0\.fn\.to_qkv\.", r"\1.attention.to_qkv."),
    (r"^(layers\.\d+|last_layer)\.0\.fn\.to_out\.0\.", r"\1.attention.out."),
    (r"\.1\.norm\.", ".mlp_norm."),
    (r"\.1\.fn\.net\.0\.", ".fc1."),
    (r"\.1\.fn\.net\.3\.", ".fc2."),
    (r"^conv_en\.", "shrink."),
    (r"^conv_de\.", "grow."),
    (r"^smpl_head\.0\.", "regressor."),
    (r"^loca_head\.0\.", "location_head."),
)
# Parts of the official model that prediction does not use.
_UNUSED = re.compile(
    r"^(transformer\.|pos_embedding$|pe$|class_token$|action_head|smpl_head\.[1-9]|loca_head\.[1-9])"
)


def pose_transformer(
    state: Mapping[str, Tensor], *, heads: int, conv_pad: int, conv_stride: int
) -> PoseTransformer:
    """The network with the given weights.

    Args:
        state: tensors under their official names without the leading `encoder.`, and `pose_mean`, `pose_std`.
        heads: attention heads, not told by any shape.
        conv_pad: padding of the convolutions over time, likewise.
        conv_stride: their stride.

    Raises:
        WeightsInvalid: a tensor is missing, unknown or misshapen.
    """
    renamed = {_our_name(key): tensor for key, tensor in state.items() if not _UNUSED.match(key)}
    for key in ("pose_mean", "pose_std"):
        if key in renamed:
            renamed[key] = renamed[key].reshape(-1)[:NUM_MEASURED_ENTRIES]
    try:
        inner = renamed["layers.0.attention.to_qkv.weight"].shape[0] // 3
        config = PoseTransformerConfig(
            dim=renamed["mask_token"].shape[-1],
            frame_length=renamed["position1"].shape[1],
            depth=len({key.split(".")[1] for key in renamed if key.startswith("layers.")}),
            heads=heads,
            dim_head=inner // heads,
            mlp_dim=renamed["layers.0.fc1.weight"].shape[0],
            mid_dim=renamed["pose_encoder.0.weight"].shape[0],
            regressor_dim=renamed["regressor.fc1.weight"].shape[0],
            conv_pad=conv_pad,
            conv_stride=conv_stride,
        )
    except KeyError as exc:
        raise WeightsInvalid(f"pose predictor: the tensor for {exc} is missing") from exc
    except ValueError as exc:
        raise WeightsInvalid(f"pose predictor: {exc}") from exc
    with torch.device("meta"):  # no memory until the given tensors take the places
        network = PoseTransformer(config)
    try:
        network.load_state_dict(renamed, assign=True)
    except RuntimeError as exc:
        raise WeightsInvalid(f"pose predictor: {exc}") from exc
    return network


def _our_name(official: str) -> str:
    for pattern, name in _NAMES:
        official = re.sub(pattern, name, official)
    return official
