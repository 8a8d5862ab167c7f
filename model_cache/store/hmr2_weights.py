"""HMR2's official checkpoint as the tensors of our `Hmr2`: sizes, names, what is left out.

Official keys: 4D-Humans, hmr2/models/hmr2.py.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model_cache.errors import WeightsInvalid
from model_cache.networks.decoder import HeadConfig
from model_cache.networks.hmr2 import FOCAL_LENGTH
from model_cache.networks.vit import CROP_SIZE, NUM_PATCHES, VitConfig
from model_cache.store.keys import count_layers, setting, shape_of

_DECODER = "smpl_head.transformer.transformer.layers"
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
    head = HeadConfig(
        dim=head_dim,
        depth=count_layers(state, f"{_DECODER}."),
        heads=setting(config, "MODEL.SMPL_HEAD.TRANSFORMER_DECODER.heads", HeadConfig().heads, source),
        dim_head=setting(
            config, "MODEL.SMPL_HEAD.TRANSFORMER_DECODER.dim_head", HeadConfig().dim_head, source
        ),
        mlp_dim=shape_of(state, f"{_DECODER}.0.2.fn.net.0.weight", 2, source)[0],
        context_dim=shape_of(state, f"{_DECODER}.0.1.fn.to_kv.weight", 2, source)[1],
    )
    if head.heads * head.dim_head != inner:
        raise WeightsInvalid(
            f"model_config.yaml: {head.heads} heads of {head.dim_head} do not make the checkpoint's {inner}"
        )
    return vit, head


def hmr2_shapes(vit: VitConfig, head: HeadConfig) -> dict[str, tuple[int, ...]]:
    """Every official key that inference needs, with its shape."""
    inner = head.heads * head.dim_head
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.pos_embed": (1, NUM_PATCHES + 1, vit.dim),
        "backbone.patch_embed.proj.weight": (vit.dim, 3, 16, 16),
        "backbone.patch_embed.proj.bias": (vit.dim,),
        **_affine("backbone.last_norm", vit.dim),
        "smpl_head.transformer.pos_embedding": (1, 1, head.dim),
        "smpl_head.transformer.to_token_embedding.bias": (head.dim,),
        **_affine("smpl_head.decpose", 144, head.dim),
        **_affine("smpl_head.decshape", 10, head.dim),
        **_affine("smpl_head.deccam", 3, head.dim),
        "smpl_head.init_body_pose": (1, 144),
        "smpl_head.init_betas": (1, 10),
        "smpl_head.init_cam": (1, 3),
    }
    for index in range(vit.depth):
        block = f"backbone.blocks.{index}"
        shapes |= _affine(f"{block}.norm1", vit.dim) | _affine(f"{block}.norm2", vit.dim)
        shapes |= _affine(f"{block}.attn.qkv", 3 * vit.dim, vit.dim)
        shapes |= _affine(f"{block}.attn.proj", vit.dim, vit.dim)
        shapes |= _affine(f"{block}.mlp.fc1", vit.mlp_dim, vit.dim)
        shapes |= _affine(f"{block}.mlp.fc2", vit.dim, vit.mlp_dim)
    for index in range(head.depth):
        layer = f"{_DECODER}.{index}"
        for part in range(3):
            shapes |= _affine(f"{layer}.{part}.norm", head.dim)
        shapes[f"{layer}.0.fn.to_qkv.weight"] = (3 * inner, head.dim)
        shapes[f"{layer}.1.fn.to_q.weight"] = (inner, head.dim)
        shapes[f"{layer}.1.fn.to_kv.weight"] = (2 * inner, head.context_dim)
        shapes |= _affine(f"{layer}.0.fn.to_out.0", head.dim, inner)
        shapes |= _affine(f"{layer}.1.fn.to_out.0", head.dim, inner)
        shapes |= _affine(f"{layer}.2.fn.net.0", head.mlp_dim, head.dim)
        shapes |= _affine(f"{layer}.2.fn.net.3", head.dim, head.mlp_dim)
    return shapes


_RENAMED = (
    (r"backbone\.patch_embed\.proj\.", "backbone.patch_embed."),
    (r"smpl_head\.decpose\.", "head.to_pose."),
    (r"smpl_head\.decshape\.", "head.to_betas."),
    (r"smpl_head\.deccam\.", "head.to_cam."),
    (r"smpl_head\.init_body_pose", "head.mean_pose"),
    (r"smpl_head\.init_betas", "head.mean_betas"),
    (r"smpl_head\.init_cam", "head.mean_cam"),
    (re.escape(_DECODER) + r"\.(\d+)\.0\.norm\.", r"head.layers.\1.self_norm."),
    (re.escape(_DECODER) + r"\.(\d+)\.0\.fn\.to_out\.0\.", r"head.layers.\1.self_out."),
    (re.escape(_DECODER) + r"\.(\d+)\.1\.norm\.", r"head.layers.\1.cross_norm."),
    (re.escape(_DECODER) + r"\.(\d+)\.1\.fn\.to_q\.", r"head.layers.\1.cross.to_query."),
    (re.escape(_DECODER) + r"\.(\d+)\.1\.fn\.to_kv\.", r"head.layers.\1.cross.to_key_value."),
    (re.escape(_DECODER) + r"\.(\d+)\.1\.fn\.to_out\.0\.", r"head.layers.\1.cross.out."),
    (re.escape(_DECODER) + r"\.(\d+)\.2\.norm\.", r"head.layers.\1.mlp_norm."),
    (re.escape(_DECODER) + r"\.(\d+)\.2\.fn\.net\.0\.", r"head.layers.\1.fc1."),
    (re.escape(_DECODER) + r"\.(\d+)\.2\.fn\.net\.3\.", r"head.layers.\1.fc2."),
)


def hmr2_tensors(used: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The needed official tensors under the names of our `Hmr2` (`backbone.`, `head.`).

    Three are folded, each exactly what the official code computes with it: the class token's position,
    added to every patch; the query, a token of zero through its embedding; and the queries and keys of
    self-attention, of no effect on a single token.
    """
    tensors = {}
    for key, tensor in used.items():
        folded = re.fullmatch(re.escape(_DECODER) + r"\.(\d+)\.0\.fn\.to_qkv\.weight", key)
        if folded:
            tensors[f"head.layers.{folded.group(1)}.self_value.weight"] = tensor[2 * len(tensor) // 3 :]
        elif key == "backbone.pos_embed":
            position = tensor.float()
            tensors["backbone.position"] = position[:, 1:] + position[:, :1]
        elif key == "smpl_head.transformer.pos_embedding":
            bias = used["smpl_head.transformer.to_token_embedding.bias"]
            tensors["head.query"] = tensor.float() + bias.float()
        elif key != "smpl_head.transformer.to_token_embedding.bias":
            tensors[_renamed(key)] = tensor
    return tensors


def _renamed(key: str) -> str:
    for pattern, name in _RENAMED:
        key, count = re.subn("^" + pattern, name, key)
        if count:
            break
    return key


def _affine(name: str, *weight: int) -> dict[str, tuple[int, ...]]:
    """A layer's weight of the given shape and its bias."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def stored_dtype(name: str, precision: str) -> torch.dtype:
    """What a tensor of `Hmr2` is stored as: only the backbone goes down to bfloat16."""
    lower = precision == "bf16" and name.startswith("backbone.")
    return torch.bfloat16 if lower else torch.float32
