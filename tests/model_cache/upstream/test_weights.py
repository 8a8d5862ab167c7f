"""The official files for the official networks: found in both places, read without running them."""

import shutil

import numpy as np
import pytest
import torch

from model_cache.errors import EngineMissing, WeightsInvalid, WeightsMissing
from model_cache.load import Stopwatch
from model_cache.settings import ModelSettings
from model_cache.store.manifest import OFFICIAL_FILES
from model_cache.upstream.load import load_upstream
from model_cache.upstream.networks import fill, find_official, read_official
from model_cache.upstream.perception import find_checkpoint
from model_cache.upstream.shims import OwnDepth


@pytest.fixture(scope="module")
def package_cache(official_tiny_files, tmp_path_factory):
    """The official files laid out as the official packages keep them."""
    folder = tmp_path_factory.mktemp("cache")
    names = {path.name: path for path in official_tiny_files.rglob("*") if path.is_file()}
    for file in OFFICIAL_FILES:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(names[file.name], folder / file.path)
    return folder


def test_the_official_packages_own_downloads_serve(package_cache, tmp_path):
    """Every needed key is read under its official name, from where 4D-Humans and PHALP keep their files."""
    weights = read_official(tmp_path / "no store", [package_cache])

    assert weights.vit.dim == 64
    assert weights.hmr2["smpl_head.transformer.transformer.layers.0.0.fn.to_qkv.weight"].shape == (192, 64)
    assert "pose_shape_encoder.0.weight" in weights.predictor
    assert weights.encoder["conv1x.weight"].shape == (16, 4, 3, 3)
    assert weights.predictor_config["frame_length"] == 125
    assert {file.role for file in weights.files} == {file.role for file in OFFICIAL_FILES}


def test_downloads_in_the_home_folder_are_found(package_cache, tmp_path, monkeypatch):
    """Without a word about places, files are looked for in `~/.cache`, where the packages put them."""
    (tmp_path / ".cache").symlink_to(package_cache)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert len(read_official(tmp_path / "no store").files) == len(OFFICIAL_FILES)


def test_the_store_comes_first(package_cache, tmp_path):
    """A file in the store's official folder is taken before the packages' own."""
    file = next(file for file in OFFICIAL_FILES if file.role == "pose_mean_std")
    own = tmp_path / "official" / file.path
    own.parent.mkdir(parents=True)
    shutil.copy(package_cache / file.path, own)

    assert find_official(tmp_path, [package_cache])["pose_mean_std"] == own


def test_everything_missing_is_named_at_once(tmp_path):
    """One message lists all files and what fetches them."""
    with pytest.raises(WeightsMissing) as raised:
        find_official(tmp_path, [tmp_path])

    assert all(file.name in str(raised.value) for file in OFFICIAL_FILES)
    assert "python -m handler weights fetch" in str(raised.value)


def test_weights_without_a_place_are_refused():
    """Packages of another version are not filled by halves."""
    network = torch.nn.Linear(2, 2)

    with pytest.raises(WeightsInvalid, match="has no elsewhere"):
        fill(network, {"weight": torch.ones(2, 2), "elsewhere": torch.ones(1)}, "HMR2")
    with pytest.raises(WeightsInvalid, match="HMR2"):
        fill(network, {"weight": torch.ones(3, 3)}, "HMR2")


def test_a_detector_without_its_checkpoint_is_named(tmp_path):
    """Nothing is downloaded: the message says where the file is looked for and how to name it."""
    checkpoint = tmp_path / "official/detectron2/ViTDet/COCO/cascade_mask_rcnn_vitdet_h/f328730692"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model_final_f05665.pkl").touch()

    assert find_checkpoint("vitdet", None, tmp_path).parent == checkpoint
    with pytest.raises(WeightsMissing, match=r"UPSTREAM_DETECTOR_WEIGHTS.*UPSTREAM_DETECTOR=native"):
        find_checkpoint("vitdet", tmp_path / "nothing.pkl", tmp_path)


def test_lite_models_are_not_for_this_engine(tmp_path):
    """The official packages know no lite models."""
    settings = ModelSettings(engine="upstream", models="lite", model_store=tmp_path)

    with pytest.raises(EngineMissing, match="official models only"):
        load_upstream(settings, torch.device("cpu"), Stopwatch())


def test_depth_is_drawn_for_hmars_camera_only():
    """The stand-in for neural_renderer refuses what it would get wrong."""
    triangle = torch.tensor([[[-0.1, -0.1, 40.0], [0.1, -0.1, 40.0], [0.0, 0.1, 40.0]]])
    faces = torch.tensor([[[0, 1, 2]]], dtype=torch.int32)
    camera = torch.tensor([[[5000.0, 0, 128], [0, 5000, 128], [0, 0, 1]]])
    still = {"R": torch.eye(3)[None], "t": torch.zeros(1, 3)}

    draw = OwnDepth(torch.device("cpu"))
    depth = draw(triangle, faces, mode="depth", K=camera, **still)

    assert depth.shape == (1, 256, 256)
    assert np.isclose(depth.min().item(), 40.0)
    with pytest.raises(ValueError, match="HMAR"):
        draw(triangle, faces, mode="depth", K=camera * 2, **still)
    with pytest.raises(ValueError, match="HMAR"):
        draw(triangle, faces, mode="rgb", K=camera, **still)
