"""Networks out of the store, on the device they run on.

A model of the store is `NAME.safetensors` and, where it has sizes or settings, `NAME.json`. Every function
raises `WeightsMissing` where they are not there, and `WeightsInvalid` where they are not what they should be.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.networks.decoder import HeadConfig, SmplHead
from model_cache.networks.hmr2 import Hmr2
from model_cache.networks.pose_transformer import PoseTransformer, pose_transformer
from model_cache.networks.smpl import Smpl
from model_cache.networks.vit import VitBackbone, VitConfig
from model_cache.store.body_files import read_body
from model_cache.store.files import read_checked
from model_cache.store.manifest import FETCH


def load_body(path: Path, device: torch.device | str = "cpu") -> Smpl:
    """The body of `smpl.safetensors`, or of any other file that `read_body` reads, ready to run."""
    return Smpl(read_body(path)).to(device)


def load_smpl(store: Path, device: torch.device | str = "cpu") -> Smpl:
    """The operator's SMPL body."""
    return load_body(_stored(store, "smpl.safetensors"), device)


def load_hmr2(
    store: Path, device: torch.device | str = "cpu", precision: Literal["fp32", "bf16"] = "fp32"
) -> Hmr2:
    """HMR2 with its ViT, ready to run.

    Args:
        store: folder of the converted files.
        device: where the tensors go, straight from the file.
        precision: of the backbone; the head is float32 in any case.
    """
    config = read_config(store, "hmr2")
    if precision == "fp32" and config["precision"] != "fp32":
        raise WeightsInvalid(
            "the store holds HMR2 in bf16, which cannot be loaded as fp32: use MODEL_PRECISION=bf16, "
            "or convert again with --precision fp32"
        )
    with torch.device("meta"):  # no memory until the file's own tensors take the places
        backbone = VitBackbone(VitConfig(**config["vit"]))
        head = SmplHead(HeadConfig(**config["head"]))
    hmr2 = Hmr2(backbone=backbone, head=head)
    try:
        hmr2.load_state_dict(read_tensors(store, "hmr2", device), strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsInvalid(
            f"hmr2.safetensors does not fit the network ({str(error)[:300]}); convert the files again"
        ) from error
    hmr2.requires_grad_(requires_grad=False).eval()
    if precision == "bf16":
        backbone.to(torch.bfloat16)
    return hmr2


def load_pose_predictor(store: Path, device: torch.device | str = "cpu") -> PoseTransformer:
    """PHALP's pose transformer, ready to run."""
    config = read_config(store, "pose_predictor")
    settings = {name: config[name] for name in ("heads", "conv_pad", "conv_stride")}
    return pose_transformer(read_tensors(store, "pose_predictor"), **settings).to(device)


def read_tensors(store: Path, model: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of `model`, mapped from the file straight to the device."""
    path = _stored(store, f"{model}.safetensors")
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"{path.name}: broken ({error}); convert the official files again") from error


def read_config(store: Path, model: str) -> dict[str, Any]:
    """The sizes and settings of `model`."""
    return read_checked(_stored(store, f"{model}.json"))


def _stored(store: Path, name: str) -> Path:
    if not (store / name).is_file():
        raise WeightsMissing(
            f"{name} is not in the weights store: run `{FETCH}`, or, where you have the official files in a "
            "folder, `python -m handler weights convert FOLDER`"
        )
    return store / name
