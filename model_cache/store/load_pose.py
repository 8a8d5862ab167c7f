"""The pose predictor out of the store, on the device it runs on. Knows nothing of official files or jobs."""

from pathlib import Path

import torch

from model_cache.networks.pose_predictor import TransformerPosePredictor
from model_cache.networks.pose_weights import pose_transformer
from model_cache.store.layout import read_config, read_tensors


def load_pose_predictor(store: Path, device: torch.device | str = "cpu") -> TransformerPosePredictor:
    """PHALP's pose predictor, ready to run; sizes from the tensors, the rest from its JSON file.

    Raises:
        WeightsMissing: not converted yet.
        WeightsInvalid: broken, or not the pose predictor.
    """
    config = read_config(store, "pose_predictor")
    network = pose_transformer(
        read_tensors(store, "pose_predictor", device),
        heads=config["heads"],
        conv_pad=config["conv_pad"],
        conv_stride=config["conv_stride"],
    )
    return TransformerPosePredictor(network, torch.device(device))
