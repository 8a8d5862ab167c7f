"""The goldens' pose predictors, through official files and their conversion."""

from pathlib import Path
from typing import Literal

import torch

from model_cache.networks.pose_predictor import TransformerPosePredictor
from model_cache.networks.pose_transformer import PoseTransformer
from model_cache.store.load import load_pose_predictor
from ops.weights.convert import convert
from tests.weight_rule import write_phalp

Name = Literal["tiny", "tiny_posed", "lart256"]


def golden_pose_predictor(folder: Path, name: Name, device: str = "cpu") -> TransformerPosePredictor:
    """The predictor with weights by rule, its files below `folder`."""
    return TransformerPosePredictor(golden_pose_transformer(folder, name), torch.device(device))


def golden_pose_transformer(folder: Path, name: Name) -> PoseTransformer:
    """The network of that predictor."""
    write_phalp(folder / "official", name)
    convert([folder / "official"], folder / "store", only=["pose_predictor"])
    return load_pose_predictor(folder / "store")
