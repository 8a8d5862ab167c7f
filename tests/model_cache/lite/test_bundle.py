"""What is bundled: its size, its licences, and that it loads."""

import pytest

from model_cache.lite.load import (
    FILES,
    LITE_FOLDER,
    load_appearance,
    load_lite,
    load_lite_hmr2,
    load_lite_pose_transformer,
)
from model_cache.load import Stopwatch
from model_cache.settings import ModelSettings
from model_cache.store.files import sha256_of


def test_bundle_is_small_and_its_notice_names_every_file():
    """About 25 MB, so that a clone and an image stay light; who passes it on finds each file's licence."""
    assert sum(path.stat().st_size for path in LITE_FOLDER.iterdir() if path.is_file()) < 27 * 2**20
    notice = (LITE_FOLDER / "NOTICE").read_text()

    assert all(name in notice for name in FILES.values())
    assert "Apache License" in notice


def test_lite_results_say_so():
    """The description names the models, hashes every file, and warns in plain words."""
    description = load_lite(ModelSettings(models="lite", model_threads=1), Stopwatch()).description

    assert (description.models, description.backbone, description.body_model) == ("lite", "blazepose", "free")
    assert {file.name: file.sha256 for file in description.files} == {
        name: sha256_of(LITE_FOLDER / name) for name in FILES.values()
    }
    assert "rough" in description.notice


@pytest.mark.parametrize("network", [load_appearance, load_lite_pose_transformer, lambda: load_lite_hmr2(1)])
def test_bundled_weights_are_finite_and_frozen(network):
    """No weight is NaN, infinite or left trainable."""
    for parameter in network().parameters():
        assert bool(parameter.isfinite().all())
        assert not parameter.requires_grad
