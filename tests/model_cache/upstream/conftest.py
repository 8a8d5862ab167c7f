"""The official packages, wherever they can be imported, with the goldens' small weights."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model_cache.errors import EngineMissing
from model_cache.interfaces import Detections
from model_cache.loaded import LoadedModels, Stopwatch, assemble
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.detector import OnDevice
from model_cache.networks.pose_weights import pose_transformer
from model_cache.networks.replay import ReplayDetector
from model_cache.networks.texture import UvMap
from model_cache.store.layout import read_config, read_tensors
from model_cache.store.load import load_hmr2
from model_cache.store.manifest import OFFICIAL_FILES
from model_cache.upstream.detectors import ReplacedDetector
from model_cache.upstream.load import UpstreamModels, assemble_upstream
from model_cache.upstream.shims import Official, import_official
from model_cache.upstream.weights import read_official
from tests.fakes import DESCRIPTION

E2E_WIDTH = 854


@pytest.fixture(scope="session")
def official() -> Official:
    """The official packages, without their detectors; the test is skipped where they are not."""
    try:
        return import_official(with_detectron=False)
    except EngineMissing as error:
        pytest.skip(f"the official engine cannot be tested here: {error}")


@pytest.fixture(scope="session")
def official_cache(official_tiny_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The goldens' official files laid out as the official packages keep theirs. Do not change it."""
    folder = tmp_path_factory.mktemp("packages") / "cache"
    found = {path.name: path for path in official_tiny_files.rglob("*") if path.is_file()}
    for file in OFFICIAL_FILES:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).symlink_to(found[file.name])
    return folder


@pytest.fixture
def upstream(official: Official, official_cache: Path) -> Callable[[dict[int, Detections]], UpstreamModels]:
    """Makes the official engine for given detections."""

    def make(recorded: dict[int, Detections]) -> UpstreamModels:
        return assemble_upstream(
            official,
            read_official(official_cache / "no store", [official_cache]),
            ReplacedDetector(ReplayDetector(recorded)),
            detector_name="replay",
            device=torch.device("cpu"),
            watch=Stopwatch(),
        )

    return make


@pytest.fixture
def native(official_tiny_store: Path) -> Callable[[dict[int, Detections]], LoadedModels]:
    """Makes our own engine for given detections."""

    def make(recorded: dict[int, Detections]) -> LoadedModels:
        store = official_tiny_store
        config, uv = read_config(store, "pose_predictor"), read_tensors(store, "uv_map")
        return assemble(
            detector=OnDevice(ReplayDetector(recorded)),
            hmr2=load_hmr2(store),
            uv_map=UvMap(barycentric=uv["bmap"].numpy(), face_index=uv["fmap"].numpy()),
            encoder=AppearanceEncoder.from_state(read_tensors(store, "appearance")),
            predictor=pose_transformer(
                read_tensors(store, "pose_predictor"),
                **{name: config[name] for name in ("heads", "conv_pad", "conv_stride")},
            ),
            description=DESCRIPTION,
            device=torch.device("cpu"),
            max_crops=32,
            watch=Stopwatch(),
        )

    return make


@pytest.fixture(scope="session")
def e2e_detections(golden: Callable[[str], dict[str, np.ndarray]]) -> dict[int, Detections]:
    """What the official run's detector found, frame by frame."""
    data = golden("e2e")
    masks = np.unpackbits(data["masks_packed"], axis=-1, count=E2E_WIDTH).astype(bool)
    ends = np.cumsum(data["n_dets"]).tolist()
    return {
        index: Detections(
            bbox_xyxy=data["boxes"][end - num : end],
            scores=data["scores"][end - num : end],
            masks=masks[end - num : end],
        )
        for index, (num, end) in enumerate(zip(data["n_dets"].tolist(), ends, strict=True))
    }
