"""Networks out of the store, on the device they run on. Knows nothing of official files or jobs."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from model_cache.errors import WeightsInvalid
from model_cache.networks.decoder import HeadConfig, SmplHead
from model_cache.networks.hmr2 import Hmr2
from model_cache.networks.smpl import Smpl
from model_cache.networks.vit import VitBackbone, VitConfig
from model_cache.store.body_files import read_body
from model_cache.store.layout import read_config, read_tensors


def load_body(path: Path, device: torch.device | str = "cpu") -> Smpl:
    """The body of `smpl.safetensors`, or of any other file that `read_body` reads, ready to run.

    Raises:
        WeightsMissing: no such file.
        WeightsInvalid: broken, or not a body.
    """
    return Smpl(read_body(path)).to(device)


def load_hmr2(
    store: Path, device: torch.device | str = "cpu", precision: Literal["fp32", "bf16"] = "fp32"
) -> Hmr2:
    """HMR2 with its ViT, ready to run.

    Args:
        store: folder of the converted files.
        device: where the tensors go, straight from the file.
        precision: of the backbone; the head is float32 in any case.

    Raises:
        WeightsMissing: not converted yet.
        WeightsInvalid: broken, or stored as bf16 where fp32 is wanted.
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
    fill(hmr2, store, "hmr2", device)
    if precision == "bf16":
        backbone.to(torch.bfloat16)
    return hmr2


def fill(network: nn.Module, store: Path, model: str, device: torch.device | str) -> None:
    """Gives a network, best made on torch's meta device, the tensors of `model`; it will not be trained.

    Raises:
        WeightsMissing: the store does not have them.
        WeightsInvalid: they are not exactly the network's.
    """
    tensors: dict[str, Any] = dict(read_tensors(store, model, device))
    try:
        network.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsInvalid(
            f"{model}.safetensors does not fit the network ({str(error)[:300]}); convert the files again"
        ) from error
    network.requires_grad_(requires_grad=False).eval()
