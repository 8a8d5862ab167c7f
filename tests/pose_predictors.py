"""The goldens' pose predictors, through official files and their conversion. Knows nothing of tracks."""

from pathlib import Path
from typing import Literal

from model_cache.networks.pose_predictor import TransformerPosePredictor
from model_cache.store.convert import convert
from model_cache.store.load_pose import load_pose_predictor
from tests.weight_rule import write_phalp

Name = Literal["tiny", "tiny_posed", "lart256"]


def golden_pose_predictor(folder: Path, name: Name, device: str = "cpu") -> TransformerPosePredictor:
    """The predictor with weights by rule, its files below `folder`."""
    write_phalp(folder / "official", name)
    convert([folder / "official"], folder / "store", only=["pose_predictor"])
    return load_pose_predictor(folder / "store", device)
