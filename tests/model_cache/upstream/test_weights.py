"""The official files for the official networks: found in both places, read without running them."""

import shutil

import numpy as np
import pytest
import torch

from model_cache.errors import EngineMissing, WeightsInvalid, WeightsMissing
from model_cache.load import Stopwatch
from model_cache.settings import ModelSettings
from model_cache.store.manifest import OFFICIAL_FILES, UPSTREAM_DETECTORS
from model_cache.upstream.load import load_upstream
from model_cache.upstream.networks import fill, find_official, read_official
from model_cache.upstream.perception import find_checkpoint
from model_cache.upstream.shims import OwnDepth


def test_the_official_packages_own_downloads_serve(weights, tmp_path, monkeypatch):
    """Every needed key is read under its official name, from `~/.cache`, where the packages keep files."""
    (tmp_path / ".cache").symlink_to(weights.cache)
    monkeypatch.setenv("HOME", str(tmp_path))

    read = read_official(tmp_path / "no store")

    assert read.vit.dim == 64
    assert read.hmr2["smpl_head.transformer.transformer.layers.0.0.fn.to_qkv.weight"].shape == (192, 64)
    assert "pose_shape_encoder.0.weight" in read.predictor
    assert read.encoder["conv1x.weight"].shape == (16, 4, 3, 3)
    assert read.predictor_config["frame_length"] == 125
    assert {file.role for file in read.files} == {file.role for file in OFFICIAL_FILES}


def test_the_store_comes_first(weights, tmp_path):
    """A file in the store's official folder is taken before the packages' own."""
    file = next(file for file in OFFICIAL_FILES if file.role == "pose_mean_std")
    own = tmp_path / "official" / file.path
    own.parent.mkdir(parents=True)
    shutil.copy(weights.cache / file.path, own)

    assert find_official(tmp_path, [weights.cache])["pose_mean_std"] == own


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
    checkpoint = tmp_path / "official" / UPSTREAM_DETECTORS["vitdet"].path
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()

    assert find_checkpoint("vitdet", None, tmp_path) == checkpoint
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
