"""The goldens' pose predictors for every test of the tracker."""

from functools import cache

import pytest


@pytest.fixture(scope="session")
def pose_predictor_of(tmp_path_factory):
    """`pose_predictor_of("tiny")` is the golden predictor of that name, converted from official files."""
    import torch  # which most tests here do without

    from model_cache.networks.pose_predictor import TransformerPosePredictor
    from tests.weight_rule import golden_pose_transformer

    def predictor(name: str) -> TransformerPosePredictor:
        network = golden_pose_transformer(tmp_path_factory.mktemp(name), name)
        return TransformerPosePredictor(network, torch.device("cpu"))

    return cache(predictor)
