"""The bundled models put together: MoveNet, BlazePose, HMR2's head, a free body, PHALP's small networks."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from model_cache.interfaces import ModelFile, ModelsDescription
from model_cache.lite.backbone import BackboneConfig, BlazePoseBackbone
from model_cache.lite.files import CONFIG_FILE, FILES, LITE_FOLDER
from model_cache.load import LoadedModels, Stopwatch, assemble, load_chosen
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.decoder import HeadConfig, SmplHead
from model_cache.networks.hmr2 import Hmr2
from model_cache.networks.pose_transformer import PoseTransformer, PoseTransformerConfig
from model_cache.networks.smpl import Smpl
from model_cache.networks.texture import UvMap
from model_cache.registry import HMR2
from model_cache.settings import ModelSettings
from model_cache.store.files import sha256_of
from model_cache.store.load import load_body

LITE_NOTICE = (
    "Made with the small bundled models and a free body of SMPL's structure, not with the official HMR2 and "
    "PHALP weights: poses are rough (arms above all), and the parameters do not fit the SMPL body."
)


def load_lite(settings: ModelSettings, watch: Stopwatch) -> LoadedModels:
    """All bundled networks but what DETECTOR and BODY_REGRESSOR put in their place, on the CPU."""
    own_hmr2 = settings.body_regressor == HMR2
    options = settings.load_options(settings.lite_detector)
    regressor, detector = load_chosen(
        settings, options, lambda: load_lite_hmr2(settings.model_threads), watch
    )
    with watch.step("phalp"):
        encoder, predictor = load_appearance(), load_lite_pose_transformer()
    return assemble(
        detector=detector,
        regressor=regressor,
        encoder=encoder,
        predictor=predictor,
        body=load_lite_body(),
        uv_map=read_uv_map(),
        device=torch.device("cpu"),
        max_crops=settings.max_batch_crops,
        watch=watch,
        description=ModelsDescription(
            models="lite",
            engine="native",
            detector=Path(settings.lite_detector).name,
            backbone="blazepose" if own_hmr2 else settings.body_regressor,
            body_model="free",
            precision="fp32",
            device="cpu",
            files=tuple(
                ModelFile(role=role, name=name, sha256=sha256_of(LITE_FOLDER / name))
                for role, name in FILES.items()
                if role != "detector" and (own_hmr2 or role != HMR2)
            ),
            notice=LITE_NOTICE,
        ),
    )


def load_lite_hmr2(num_threads: int) -> Hmr2:
    """HMR2's head, small, on the BlazePose backbone."""
    config = _config()
    backbone = BlazePoseBackbone(BackboneConfig(**config["backbone"]), num_threads)
    hmr2 = Hmr2(backbone=backbone, head=SmplHead(HeadConfig(**config["head"])))
    tensors = _tensors("hmr2.safetensors")
    hmr2.load_state_dict({re.sub(r"^mixer\.", "backbone.mixer.", name): tensors[name] for name in tensors})
    return hmr2.eval().requires_grad_(False)


def load_lite_body() -> Smpl:
    """The free body."""
    return load_body(LITE_FOLDER / FILES["body"])


def load_appearance() -> AppearanceEncoder:
    """PHALP's texture encoder, narrow."""
    return AppearanceEncoder.from_state(_tensors("appearance.safetensors"))


def load_lite_pose_transformer() -> PoseTransformer:
    """PHALP's pose transformer, small."""
    network = PoseTransformer(PoseTransformerConfig(**_config()["pose_predictor"]))
    network.load_state_dict(_tensors("pose_predictor.safetensors"))
    return network.eval().requires_grad_(False)


def read_uv_map() -> UvMap:
    """The UV map of the free body."""
    with np.load(LITE_FOLDER / "uv_map.npz") as data:
        return UvMap(barycentric=data["bmap"].astype(np.float32), face_index=data["fmap"].astype(np.int64))


def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((LITE_FOLDER / CONFIG_FILE).read_bytes())
    return config


def _tensors(name: str) -> dict[str, Tensor]:
    """Tensors of a bundled file, stored as float16, in float32."""
    return {key: tensor.float() for key, tensor in load_file(LITE_FOLDER / name).items()}
