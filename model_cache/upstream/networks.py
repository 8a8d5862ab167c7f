"""The official networks, built from the official classes and filled with the official weights."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_cache.errors import WeightsInvalid
from model_cache.networks.decoder import HeadConfig
from model_cache.networks.depth import FOCAL_LENGTH_PX
from model_cache.networks.smpl import BodyData
from model_cache.upstream.shims import IMAGE_SIZE, Official, Settings, bare, depth_renderer, own_stdout
from model_cache.upstream.weights import OfficialWeights


def build_tracking_model(official: Official, weights: OfficialWeights, device: torch.device) -> Any:
    """4D-Humans' `HMR2_4dhuman` with all its networks but the detector, on the device, in eval mode.

    Raises:
        WeightsInvalid: the weights do not fit the installed packages' networks.
    """
    config = official.script.Human4DConfig()
    config.device = str(device)
    config.render.enable = False
    model = official.tracking_class()
    model.cfg, model.device = config, device
    with tempfile.TemporaryDirectory() as folder, own_stdout():
        # The official heads open a file of mean parameters; the checkpoints' own take their place at once.
        means = Path(folder) / "mean_params.npz"
        np.savez(means, pose=np.zeros(144), shape=np.zeros(10), cam=np.zeros(3))
        config.MODEL.SMPL_HEAD.SMPL_MEAN_PARAMS = str(means)
        model.HMAR = _sampler(official, weights, config, str(means))
        model.pose_predictor = _predictor(official, weights, config)
        config.MODEL.SMPL_HEAD.SMPL_MEAN_PARAMS = ""
    model.pose_predictor.smpl = model.HMAR.smpl
    model.HMAR.neural_renderer = depth_renderer(device)
    return model.requires_grad_(False).to(device).eval()


def _sampler(official: Official, weights: OfficialWeights, config: Any, means: str) -> Any:
    """`HMR2023TextureSampler`: HMR2, PHALP's body, the UV map and the appearance encoder."""
    sampler = bare(official.script.HMR2023TextureSampler)
    sampler.model = _hmr2(official, weights, means)
    old = bare(official.hmar.HMAR)  # of the old network only the encoder and three methods are used
    old.cfg = config
    old.encoding_head = official.encoding_head.EncodingHead(cfg=config, img_H=IMAGE_SIZE, img_W=IMAGE_SIZE)
    fill(old.encoding_head, weights.encoder, "the appearance encoder")
    old.smpl = _body(official.phalp_body.SMPL, weights.body)
    sampler.hmar_old, sampler.smpl = old, old.smpl
    sampler.register_buffer("tex_bmap", weights.uv_map["bmap"].float())
    sampler.register_buffer("tex_fmap", weights.uv_map["fmap"].long())
    sampler.img_size, sampler.focal_length = IMAGE_SIZE, FOCAL_LENGTH_PX
    return sampler


def _hmr2(official: Official, weights: OfficialWeights, means: str) -> Any:
    """`HMR2` for inference: no discriminator, no losses, no renderers (their constructors open EGL)."""
    vit, head = weights.vit, weights.head
    model = bare(official.hmr2.HMR2)
    model.cfg = _hmr2_config(head, means)
    model.backbone = official.vit.ViT(
        img_size=(256, 192),
        patch_size=16,
        embed_dim=vit.dim,
        depth=vit.depth,
        num_heads=vit.heads,
        ratio=1,
        mlp_ratio=vit.mlp_dim / vit.dim,
        qkv_bias=True,
        drop_path_rate=0.0,  # without effect in eval mode
    )
    model.smpl_head = official.hmr2_head.build_smpl_head(model.cfg)
    fill(model, weights.hmr2, "HMR2")
    model.smpl = _body(official.hmr2_body.SMPL, weights.body)
    return model


def _hmr2_config(head: HeadConfig, means: str) -> Settings:
    """The part of model_config.yaml that the official code reads at inference."""
    decoder = {key: value for key, value in asdict(head).items() if key != "dim"}
    return Settings(
        MODEL=Settings(
            IMAGE_SIZE=IMAGE_SIZE,
            SMPL_HEAD=Settings(
                TYPE="transformer_decoder",
                TRANSFORMER_DECODER={**decoder, "dim": head.dim, "dropout": 0.0, "norm": "layer"},
            ),
        ),
        SMPL=Settings(NUM_BODY_JOINTS=23, MEAN_PARAMS=means),
        EXTRA=Settings(FOCAL_LENGTH=FOCAL_LENGTH_PX),
    )


def _predictor(official: Official, weights: OfficialWeights, config: Any) -> Any:
    """`Pose_transformer_v2`, with its pose encoder loaded.

    The official loader removes `encoder.` from inside of `pose_shape_encoder.` too, and so leaves that layer
    random (PHALP: pose_transformer_v2.py, load_weights). A random layer cannot be reproduced.
    """
    predictor = bare(official.predictor.Pose_transformer_v2)
    settings = official.omegaconf.OmegaConf.create(dict(weights.predictor_config))
    settings.max_people = 1
    transformer = settings.transformer
    predictor.phalp_cfg, predictor.cfg = config, settings
    predictor.encoder = official.predictor.lart_transformer(
        opt=settings,
        phalp_cfg=config,
        dim=settings.in_feat,
        depth=transformer.depth,
        heads=transformer.heads,
        mlp_dim=transformer.mlp_dim,
        dim_head=transformer.dim_head,
        dropout=transformer.dropout,
        emb_dropout=transformer.emb_dropout,
        droppath=transformer.droppath,
    )
    fill(predictor.encoder, weights.predictor, "the pose predictor")
    predictor.mean_ = weights.pose_statistics["pose_mean"].float().view(1, 1, -1)
    predictor.std_ = weights.pose_statistics["pose_std"].float().view(1, 1, -1)
    return predictor


def _body(body_class: Any, body: BodyData) -> Any:
    """An official SMPL wrapper from arrays; it would unpickle with chumpy, which breaks on today's numpy."""
    if body.posedirs is None:
        raise WeightsInvalid("the official packages need a body with pose blend shapes (`posedirs`)")
    parents = body.parents.copy()
    parents[0] = 2**32 - 1  # as the official file has it
    wrapper = body_class(
        model_path="",
        gender="neutral",
        num_body_joints=23,
        joint_regressor_extra=None,
        data_struct=Settings(
            v_template=body.v_template,
            f=body.faces,
            shapedirs=body.shapedirs,
            posedirs=body.posedirs,
            J_regressor=body.joint_regressor,
            weights=body.lbs_weights,
            kintree_table=np.stack([parents, np.arange(len(parents))]),
        ),
    )
    wrapper.register_buffer("joint_regressor_extra", torch.from_numpy(body.joint_regressor_extra.copy()))
    return wrapper


def fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Gives a network its weights; parts of it that inference does not use keep what they have.

    Raises:
        WeightsInvalid: the network has no place for one of them, or another shape.
    """
    try:
        unexpected = network.load_state_dict(dict(tensors), strict=False).unexpected_keys
    except RuntimeError as error:
        raise WeightsInvalid(f"{name}: {str(error)[:300]}") from error
    if unexpected:
        raise WeightsInvalid(f"{name}: the installed official package has no {', '.join(unexpected[:3])}")
