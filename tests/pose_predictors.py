"""The goldens' pose predictors, through official files and their conversion. Knows nothing of tracks."""

from pathlib import Path
from typing import Literal

import torch

from model_cache.networks.pose_predictor import TransformerPosePredictor
from model_cache.networks.pose_weights import pose_transformer
from model_cache.store.load import read_config, read_tensors
from ops.weights.convert import convert
from tests.weight_rule import write_phalp

Name = Literal["tiny", "tiny_posed", "lart256"]


def golden_pose_predictor(folder: Path, name: Name, device: str = "cpu") -> TransformerPosePredictor:
    """The predictor with weights by rule, its files below `folder`."""
    write_phalp(folder / "official", name)
    convert([folder / "official"], folder / "store", only=["pose_predictor"])
    config = read_config(folder / "store", "pose_predictor")
    network = pose_transformer(
        read_tensors(folder / "store", "pose_predictor"),
        **{key: config[key] for key in ("heads", "conv_pad", "conv_stride")},
    )
    return TransformerPosePredictor(network, torch.device(device))
