"""The official files, and the official networks built from the official classes and filled with them.

The files lie in the store (`official/`, where `weights fetch` puts them) or in the official packages' caches
(`~/.cache/4DHumans`, `~/.cache/phalp`), so one download serves both engines.
"""

import io
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.interfaces import ModelFile
from model_cache.networks.decoder import HeadConfig
from model_cache.networks.depth import FOCAL_LENGTH_PX
from model_cache.networks.smpl import BodyData
from model_cache.networks.vit import VitConfig
from model_cache.store.body_files import read_body, read_joint_regressor
from model_cache.store.files import sha256_of
from model_cache.store.hmr2_weights import HMR2_IGNORED, hmr2_configs, hmr2_shapes
from model_cache.store.keys import account, read_yaml
from model_cache.store.manifest import FETCH, OFFICIAL_FILES, official_file, package_caches
from model_cache.store.phalp_weights import (
    appearance_tensors,
    pose_statistics,
    predictor_tensors,
    uv_map_tensors,
)
from model_cache.store.pickles import checkpoint_tensors
from model_cache.upstream.shims import IMAGE_SIZE, Official, Settings, bare, depth_renderer


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialWeights:
    """What the official networks are filled with; tensors may still lie in their files.

    Attributes:
        hmr2: under the checkpoint's keys.
        vit: sizes of HMR2's backbone.
        head: sizes of HMR2's head.
        encoder: the appearance encoder, keys without wrappers.
        predictor: the pose predictor, keys without the leading `encoder.`.
        predictor_config: the node `configs` of pose_predictor.yaml.
        pose_statistics: `pose_mean` and `pose_std`, (229,) each.
        uv_map: `bmap` and `fmap`.
        body: SMPL.
        files: what was read.
    """

    hmr2: Mapping[str, Tensor]
    vit: VitConfig
    head: HeadConfig
    encoder: Mapping[str, Tensor]
    predictor: Mapping[str, Tensor]
    predictor_config: Mapping[str, Any]
    pose_statistics: Mapping[str, Tensor]
    uv_map: Mapping[str, Tensor]
    body: BodyData
    files: tuple[ModelFile, ...]


def read_official(store: Path, caches: Sequence[Path] | None = None) -> OfficialWeights:
    """Reads the official files, every needed key accounted for and no pickle executed.

    Args:
        store: the weights store; its files come before those of the caches.
        caches: folders that hold `4DHumans/` and `phalp/`; by default the official packages' own.

    Raises:
        WeightsMissing: files are in none of these places; all of them are named.
        WeightsInvalid: a file is not what it should be.
    """
    paths = find_official(store, package_caches() if caches is None else caches)
    hmr2, encoder, predictor = (paths[f"{name}_checkpoint"] for name in ("hmr2", "appearance", "predictor"))
    state = checkpoint_tensors(hmr2, "state_dict")
    vit, head = hmr2_configs(state, read_yaml(paths["hmr2_config"]), hmr2.name)
    config = read_yaml(paths["predictor_config"])
    return OfficialWeights(
        hmr2=account(state, hmr2_shapes(vit, head), HMR2_IGNORED, hmr2.name).used,
        vit=vit,
        head=head,
        encoder=appearance_tensors(checkpoint_tensors(encoder, "model"), encoder.name).used,
        predictor=predictor_tensors(checkpoint_tensors(predictor, "state_dict"), predictor.name).used,
        predictor_config=config.get("configs", config),
        pose_statistics=pose_statistics(paths["pose_mean_std"]),
        uv_map=uv_map_tensors(paths["uv_barycentric"], paths["uv_faces"]),
        body=read_body(paths["smpl"], read_joint_regressor(paths["joint_regressor"])),
        files=tuple(
            ModelFile(role=role, name=path.name, sha256=sha256_of(path)) for role, path in paths.items()
        ),
    )


def find_official(store: Path, caches: Sequence[Path]) -> dict[str, Path]:
    """The official file of each role.

    Raises:
        WeightsMissing: as `read_official`.
    """
    paths = {file.role: official_file(store, file, caches) for file in OFFICIAL_FILES}
    found = {role: path for role, path in paths.items() if path}
    missing = [f"{file.path} (from {file.origin})" for file in OFFICIAL_FILES if file.role not in found]
    if missing:
        raise WeightsMissing(
            "ENGINE=upstream needs the official files, in the store or in ~/.cache; run "
            f"`{FETCH}`. Missing: {'; '.join(missing)}"
        )
    return found


def build_tracking_model(official: Official, weights: OfficialWeights, device: torch.device) -> Any:
    """4D-Humans' `HMR2_4dhuman` with all its networks but the detector, on the device, in eval mode.

    Raises:
        WeightsInvalid: the weights do not fit the installed packages' networks.
    """
    config = official.script.Human4DConfig()
    config.device = str(device)
    config.render.enable = False
    model = bare(official.tracking_class)
    model.cfg, model.device = config, device
    # smplx prints, and PHALP (smpl_utils.py, blockPrinting) points `sys.stdout` elsewhere for good.
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
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
    vit, decoder = weights.vit, {**asdict(weights.head), "dropout": 0.0, "norm": "layer"}
    model = bare(official.hmr2.HMR2)
    model.cfg = Settings(  # what the official code reads of model_config.yaml at inference
        MODEL=Settings(
            IMAGE_SIZE=IMAGE_SIZE,
            SMPL_HEAD=Settings(TYPE="transformer_decoder", TRANSFORMER_DECODER=decoder),
        ),
        SMPL=Settings(NUM_BODY_JOINTS=23, MEAN_PARAMS=means),
        EXTRA=Settings(FOCAL_LENGTH=FOCAL_LENGTH_PX),
    )
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


def _predictor(official: Official, weights: OfficialWeights, config: Any) -> Any:
    """`Pose_transformer_v2`, with its pose encoder loaded.

    The official loader removes `encoder.` from inside of `pose_shape_encoder.` too, and so leaves that layer
    random (PHALP: pose_transformer_v2.py, load_weights). A random layer cannot be reproduced.
    """
    predictor = bare(official.predictor.Pose_transformer_v2)
    settings = official.omegaconf.OmegaConf.create(dict(weights.predictor_config))
    settings.max_people = 1
    predictor.phalp_cfg, predictor.cfg = config, settings
    names = ("depth", "heads", "mlp_dim", "dim_head", "dropout", "emb_dropout", "droppath")
    predictor.encoder = official.predictor.lart_transformer(
        opt=settings,
        phalp_cfg=config,
        dim=settings.in_feat,
        **{name: settings.transformer[name] for name in names},
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
