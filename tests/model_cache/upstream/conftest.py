"""The official packages, wherever the settings find them, with the goldens' small weights."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from benchmarks.side_by_side_engines import load_native, load_official
from benchmarks.side_by_side_weights import Weights, arrange
from model_cache.errors import EngineMissing
from model_cache.load import LoadedModels
from model_cache.networks.detector import Detections
from model_cache.settings import ModelSettings
from model_cache.upstream.load import UpstreamModels
from model_cache.upstream.shims import Official, import_official
from tests.goldens import golden_detections


@pytest.fixture(scope="session")
def official() -> Official:
    """The official packages, without their detectors; the test is skipped where they are not."""
    try:
        return import_official(ModelSettings().upstream_script, with_detectron=False)
    except EngineMissing as error:
        pytest.skip(f"the official engine cannot be tested here: {error}")


@pytest.fixture(scope="session")
def weights(
    official_tiny_files: Path, official_tiny_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Weights:
    """The goldens' files laid out as the official packages keep theirs, and converted. Do not change them."""
    cache = arrange(official_tiny_files, tmp_path_factory.mktemp("packages") / "cache")
    store = official_tiny_store
    return Weights(cache=cache, store=store, converted=store, kind="the goldens'")


@pytest.fixture
def upstream(official: Official, weights: Weights) -> Callable[[Mapping[int, Detections]], UpstreamModels]:
    """Makes the official engine for given detections."""
    return lambda recorded: load_official(weights, recorded, torch.device("cpu"))


@pytest.fixture
def native(weights: Weights) -> Callable[[Mapping[int, Detections]], LoadedModels]:
    """Makes our own engine for given detections."""
    return lambda recorded: load_native(weights, recorded, torch.device("cpu"))


@pytest.fixture(scope="session")
def e2e_detections() -> dict[int, Detections]:
    """What the official run's detector found, frame by frame."""
    return golden_detections()
