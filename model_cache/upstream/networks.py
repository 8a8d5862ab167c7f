"""The official networks, built from the official classes and filled with the official weights.

Knows nothing of frames or tracks.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from jaxtyping import Float32, Int
from torch import Tensor, nn

from model_cache.errors import WeightsInvalid
from model_cache.networks.decoder import HeadConfig
from model_cache.networks.depth import FOCAL_LENGTH_PX, MAP_SIZE, depth_maps
from model_cache.networks.depth_compiled import compiled_fill
from model_cache.networks.smpl import BodyData
from model_cache.upstream.shims import Official, Settings, bare, own_stdout
from model_cache.upstream.weights import OfficialWeights

log = structlog.get_logger(__name__)
IMAGE_SIZE = 256


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


def depth_renderer(device: torch.device) -> Any:
    """neural_renderer as the official script sets it up, or our own rasteriser in its place.

    4D-Humans: track.py, HMR2023TextureSampler.__init__. neural_renderer is a CUDA extension that was written
    for old compilers: it cannot run on a CPU, and not everybody can build it for a GPU.
    """
    if device.type != "cuda":
        return OwnDepth(device)
    try:
        import neural_renderer  # type: ignore[import-not-found]  # a build of its own, see docs/13-engines.md
    except ImportError as error:
        log.warning("our own rasteriser stands in for neural_renderer", reason=str(error))
        return OwnDepth(device)
    return neural_renderer.Renderer(
        dist_coeffs=None,
        orig_size=IMAGE_SIZE,
        image_size=IMAGE_SIZE,
        light_intensity_ambient=1,
        light_intensity_directional=0,
        anti_aliasing=False,
    )


class OwnDepth:
    """Stands in for neural_renderer's depth mode with HMAR's camera, the only one it is called with."""

    def __init__(self, device: torch.device) -> None:
        self._fill = compiled_fill() if device.type == "cpu" else None

    def __call__(
        self,
        vertices: Float32[Tensor, "b v 3"],
        faces: Int[Tensor, "b f 3"],
        *,
        mode: str,
        K: Float32[Tensor, "1 3 3"],  # noqa: N803 - the official name
        R: Float32[Tensor, "1 3 3"],  # noqa: N803 - the official name
        t: Float32[Tensor, "1 3"],
    ) -> Float32[Tensor, "b 256 256"]:
        """Camera z of the nearest surface.

        Raises:
            ValueError: another camera or mode than HMAR's.
        """
        focal, centre = FOCAL_LENGTH_PX, MAP_SIZE / 2
        camera = torch.tensor([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
        same = torch.equal(K[0].cpu(), camera) and torch.equal(R[0].cpu(), torch.eye(3)) and not t.any()
        if mode != "depth" or not same:
            raise ValueError("only depth maps by HMAR's camera can be drawn here")
        return depth_maps(vertices, faces[0].long(), fill=self._fill)


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
