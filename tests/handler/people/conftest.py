"""The goldens' pose predictors for every test of the tracker."""

from functools import cache

import pytest


@pytest.fixture(scope="session")
def pose_predictor_of(tmp_path_factory):
    """`pose_predictor_of("tiny")` is the golden predictor of that name, converted from official files."""
    from tests.pose_predictors import golden_pose_predictor  # imports torch, which most tests here do without

    return cache(lambda name: golden_pose_predictor(tmp_path_factory.mktemp(name), name))
