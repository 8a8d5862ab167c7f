"""HMR2's official checkpoint as the tensors of our `Hmr2`: sizes, names, what is left out.

Official keys: 4D-Humans, hmr2/models/hmr2.py.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model_cache.errors import WeightsInvalid
from model_cache.networks.decoder import HeadConfig, SmplHead
from model_cache.networks.hmr2 import FOCAL_LENGTH, Hmr2
from model_cache.networks.vit import CROP_SIZE, NUM_PATCHES, VitBackbone, VitConfig
from model_cache.store.keys import count_layers, setting, shape_of

_DECODER = "smpl_head.transformer.transformer.layers"
_QUERY_BIAS = "smpl_head.transformer.to_token_embedding.bias"
_VIT_H_DIM = 1280
HMR2_IGNORED = {
    r"discriminator\.": "only trains the network",
    r"initialized$": "a note of the training loop",
    r"smpl\.": "the body model comes from the SMPL file",
    r"smpl_head\.transformer\.to_token_embedding\.weight$": "it multiplies HMR2's query token, which is zero",
    r"(keypoint|smpl_parameter)\w*_loss\.": "only trains the network",
}
# Settings under which the official code computes something else than ours.
_EXPECTED = {
    "MODEL.IMAGE_SIZE": CROP_SIZE,
    "MODEL.IMAGE_MEAN": [0.485, 0.456, 0.406],
    "MODEL.IMAGE_STD": [0.229, 0.224, 0.225],
    "MODEL.BACKBONE.TYPE": "vit",
    "MODEL.SMPL_HEAD.TYPE": "transformer_decoder",
    "MODEL.SMPL_HEAD.IEF_ITERS": 1,
    "MODEL.SMPL_HEAD.JOINT_REP": "6d",
    "MODEL.SMPL_HEAD.TRANSFORMER_INPUT": "zero",
    "MODEL.SMPL_HEAD.TRANSFORMER_DECODER.norm": "layer",
    "SMPL.NUM_BODY_JOINTS": 23,
    "EXTRA.FOCAL_LENGTH": FOCAL_LENGTH,
}


def hmr2_configs(
    state: Mapping[str, Tensor], config: Mapping[str, Any], source: str
) -> tuple[VitConfig, HeadConfig]:
    """Sizes out of the tensors; heads, which no tensor tells, out of `model_config.yaml`.

    Raises:
        WeightsInvalid: not HMR2, or an HMR2 that this code does not know.
    """
    for name, expected in _EXPECTED.items():
        value = setting(config, name, expected, "model_config.yaml")
        if value != expected:
            raise WeightsInvalid(f"model_config.yaml: `{name}` is {value!r}, only {expected!r} is supported")
    dim = shape_of(state, "backbone.pos_embed", 3, source)[-1]
    heads = setting(config, "MODEL.BACKBONE.NUM_HEADS", VitConfig().heads if dim == _VIT_H_DIM else 0, source)
    if heads < 1 or dim % heads:
        raise WeightsInvalid(
            f"{source}: a backbone of width {dim} is not the official ViT-H, so model_config.yaml must say "
            "its number of heads as MODEL.BACKBONE.NUM_HEADS"
        )
    vit = VitConfig(
        dim=dim,
        depth=count_layers(state, "backbone.blocks."),
        heads=heads,
        mlp_dim=shape_of(state, "backbone.blocks.0.mlp.fc1.weight", 2, source)[0],
    )
    inner, head_dim = shape_of(state, f"{_DECODER}.0.1.fn.to_q.weight", 2, source)
    decoder, usual = "MODEL.SMPL_HEAD.TRANSFORMER_DECODER", HeadConfig()
    head = HeadConfig(
        dim=head_dim,
        depth=count_layers(state, f"{_DECODER}."),
        heads=setting(config, f"{decoder}.heads", usual.heads, source),
        dim_head=setting(config, f"{decoder}.dim_head", usual.dim_head, source),
        mlp_dim=shape_of(state, f"{_DECODER}.0.2.fn.net.0.weight", 2, source)[0],
        context_dim=shape_of(state, f"{_DECODER}.0.1.fn.to_kv.weight", 2, source)[1],
    )
    if head.heads * head.dim_head != inner:
        raise WeightsInvalid(
            f"model_config.yaml: {head.heads} heads of {head.dim_head} do not make the checkpoint's {inner}"
        )
    return vit, head


# Parts of our `Hmr2`'s names, and what stands there in the official ones; replaced in turn, either way.
_BACKBONE_NAMES = (
    ("backbone.patch_embed.", "backbone.patch_embed.proj."),
    ("backbone.position", "backbone.pos_embed"),
)
_HEAD_NAMES = (
    ("head.query", "smpl_head.transformer.pos_embedding"),
    ("head.to_pose.", "smpl_head.decpose."),
    ("head.to_betas.", "smpl_head.decshape."),
    ("head.to_cam.", "smpl_head.deccam."),
    ("head.mean_pose", "smpl_head.init_body_pose"),
    ("head.mean_betas", "smpl_head.init_betas"),
    ("head.mean_cam", "smpl_head.init_cam"),
    ("head.layers.", f"{_DECODER}."),
    (".self_norm.", ".0.norm."),
    (".self_value.", ".0.fn.to_qkv."),
    (".self_out.", ".0.fn.to_out.0."),
    (".cross_norm.", ".1.norm."),
    (".cross.to_query.", ".1.fn.to_q."),
    (".cross.to_key_value.", ".1.fn.to_kv."),
    (".cross.out.", ".1.fn.to_out.0."),
    (".mlp_norm.", ".2.norm."),
    (".fc1.", ".2.fn.net.0."),
    (".fc2.", ".2.fn.net.3."),
)


def hmr2_shapes(vit: VitConfig, head: HeadConfig) -> dict[str, tuple[int, ...]]:
    """Every official key that inference needs, with its shape: our network's, but for what is folded."""
    with torch.device("meta"):
        network = Hmr2(backbone=VitBackbone(vit), head=SmplHead(head))
    shapes = {_official(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    shapes["backbone.pos_embed"] = (1, NUM_PATCHES + 1, vit.dim)
    shapes[_QUERY_BIAS] = (head.dim,)
    for layer in range(head.depth):
        shapes[f"{_DECODER}.{layer}.0.fn.to_qkv.weight"] = (3 * head.heads * head.dim_head, head.dim)
    return shapes


def hmr2_tensors(used: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The needed official tensors under the names of our `Hmr2` (`backbone.`, `head.`).

    Three are folded, each exactly what the official code computes with it: the class token's position,
    added to every patch; the query, a token of zero through its embedding; and the queries and keys of
    self-attention, of no effect on a single token.
    """
    tensors = {_ours(key): tensor for key, tensor in used.items() if key != _QUERY_BIAS}
    position = tensors["backbone.position"].float()
    tensors["backbone.position"] = position[:, 1:] + position[:, :1]
    tensors["head.query"] = tensors["head.query"].float() + used[_QUERY_BIAS].float()
    for name, tensor in tensors.items():
        if name.endswith(".self_value.weight"):
            tensors[name] = tensor[2 * len(tensor) // 3 :]
    return tensors


def _official(name: str) -> str:
    for ours, official in _HEAD_NAMES if name.startswith("head.") else _BACKBONE_NAMES:
        name = name.replace(ours, official)
    return name


def _ours(key: str) -> str:
    for ours, official in _HEAD_NAMES if key.startswith("smpl_head.") else _BACKBONE_NAMES:
        key = key.replace(official, ours)
    return key


def stored_dtype(name: str, precision: str) -> torch.dtype:
    """What a tensor of `Hmr2` is stored as: only the backbone goes down to bfloat16."""
    lower = precision == "bf16" and name.startswith("backbone.")
    return torch.bfloat16 if lower else torch.float32
