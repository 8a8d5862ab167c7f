"""`verify`, `lock` and loading on empty, partial, complete and damaged stores."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.load import load, load_body_model
from model_cache.settings import ModelSettings
from model_cache.store.manifest import MODEL_SOURCES, OFFICIAL_FILES
from ops.weights.content import content_problem
from ops.weights.inventory import ENGINES, check_official, record, verify
from ops.weights.lock import read_lock
from ops.weights.settings import LOCK_FILE, WeightSettings

DETECTOR = "tiny-detector"


@pytest.fixture
def complete(official_tiny_store, tmp_path):
    """Models of a complete store, in a copy that a test may damage."""
    store = tmp_path / "store"
    shutil.copytree(official_tiny_store, store)
    (store / DETECTOR).mkdir()
    (store / DETECTOR / "config.json").write_text("{}")
    save_file({"weight": np.zeros(4, np.float32)}, store / DETECTOR / "model.safetensors")
    return ModelSettings(model_store=store, detector=DETECTOR)


def verdicts(models, **options):
    """What `verify` says, with no official package's cache around."""
    return verify(models, WeightSettings(), (), ENGINES, **options)


def test_empty_store_lacks_everything_but_the_bundled_models(tmp_path):
    """Every file is named, SMPL with its address and terms; only the lite engine is ready."""
    found = verdicts(ModelSettings(model_store=tmp_path / "nothing", detector=DETECTOR))
    problems = "\n".join(found["official"].problems)
    for model in MODEL_SOURCES:
        assert f"{model}.safetensors" in problems
    for file in OFFICIAL_FILES:
        assert file.name in problems
    assert f"{DETECTOR}/model.safetensors: not there" in problems
    remedies = "\n".join(found["official"].remedies)
    assert "`python -m handler weights fetch` gets what is missing" in remedies
    assert "WEIGHTS_SMPL=/path/to/it python -m handler weights fetch" in remedies
    assert "https://smpl.is.tue.mpg.de/modellicense.html" in remedies
    assert found["lite"].problems == []
    assert len(found["upstream"].problems) == len(OFFICIAL_FILES) + 1  # and its detector


def test_complete_store_is_ready(complete):
    """A converted store with its detector has nothing to complain of."""
    assert verdicts(complete)["official"].problems == []
    assert verdicts(complete)["official"].remedies == []


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (
            "smpl.safetensors",
            "smpl.safetensors: not in the store (made from SMPL_NEUTRAL.pkl, SMPL_to_J19.pkl)",
        ),
        ("hmr2.json", "hmr2.json: not in the store"),
        (f"{DETECTOR}/config.json", f"{DETECTOR}/config.json: not there"),
    ],
)
def test_partial_store_lacks_what_it_lacks(complete, lost, words):
    """One missing file is one problem; how to get SMPL is told where it is SMPL that is missing."""
    (complete.model_store / lost).unlink()
    verdict = verdicts(complete)["official"]
    assert len(verdict.problems) == 1
    assert verdict.problems[0].startswith(words)
    assert any("smpl.is.tue.mpg.de" in remedy for remedy in verdict.remedies) == lost.startswith("smpl")


def test_flipped_bit_needs_the_hashes(complete):
    """A change that keeps the size is found by comparing hashes; `hashes=False` only sees sizes."""
    path = complete.model_store / "uv_map.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert verdicts(complete, hashes=False)["official"].problems == []
    assert verdicts(complete)["official"].problems == [
        "uv_map.safetensors: changed since it was written, or cut short"
    ]
    path.write_bytes(content[:-1])
    assert len(verdicts(complete, hashes=False)["official"].problems) == 1


def test_damaged_detector_is_found(complete):
    """A cut detector file is found by its own header, a swapped one by the recorded hash."""
    record(complete, WeightSettings())
    weights = complete.model_store / DETECTOR / "model.safetensors"
    save_file({"weight": np.ones(4, np.float32)}, weights)
    assert "another file than the one recorded" in verdicts(complete)["official"].problems[0]
    weights.write_bytes(weights.read_bytes()[:-3])
    assert "cut short" in verdicts(complete, hashes=False)["official"].problems[0]


def test_official_packages_are_checked_file_by_file(complete, official_tiny_files, tmp_path):
    """The upstream engine also counts what the official packages' own caches hold."""
    cache = tmp_path / "cache"
    shutil.copytree(official_tiny_files / "hmr2", cache / "4DHumans")
    found = verify(complete, WeightSettings(), (cache,), ["upstream"])["upstream"].problems
    assert len(found) == len(OFFICIAL_FILES) + 1 - 4
    assert not any(problem.startswith("4DHumans") for problem in found)
    (cache / "4DHumans/data/SMPL_to_J19.pkl").write_text("<html>")
    found = verify(complete, WeightSettings(), (cache,), ["upstream"])["upstream"].problems
    assert any(problem.startswith("4DHumans/data/SMPL_to_J19.pkl: this is a web page") for problem in found)


def test_lock_records_once_and_refuses_changes(complete, official_tiny_files):
    """A recorded hash stays until the change is accepted by name."""
    official = complete.model_store / "official"
    shutil.copytree(official_tiny_files / "hmr2", official / "4DHumans")
    path, entries, changed = record(complete, WeightSettings())
    assert changed == []
    expected = {"hmr2_checkpoint", "hmr2_config", "joint_regressor", "smpl"}
    expected |= {f"{DETECTOR}/config.json", f"{DETECTOR}/model.safetensors"}
    assert set(entries) == expected
    config = official / "4DHumans/logs/train/multiruns/hmr2/0/model_config.yaml"
    config.write_text(config.read_text() + "\n")
    _, after, changed = record(complete, WeightSettings())
    assert changed == ["hmr2_config"]
    assert after == entries
    _, accepted, changed = record(complete, WeightSettings(), accept=["hmr2_config"])
    assert changed == []
    assert accepted["hmr2_config"].sha256 != entries["hmr2_config"].sha256
    assert read_lock(path).files == accepted
    with pytest.raises(WeightsMissing, match="cannot be accepted: nonsense"):
        record(complete, WeightSettings(), accept=["nonsense"])


@pytest.mark.parametrize("content", ["", "{}", '{"format": 9}', '{"format": 1, "files": {"a": {}}}'])
def test_broken_lock_is_never_thrown_away(complete, content):
    """What later files are held against is not silently begun anew."""
    path = complete.model_store / LOCK_FILE
    path.write_text(content)
    with pytest.raises(WeightsInvalid, match="restore it"):
        record(complete, WeightSettings())
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("content", "words"), [("{", "store.json: broken"), ('{"format": 99}', "store.json: of another format")]
)
def test_broken_store_file_is_a_problem_and_no_crash(complete, content, words):
    """A store.json that cannot be read is reported like any other damage."""
    (complete.model_store / "store.json").write_text(content)
    (problem,) = verdicts(complete)["official"].problems
    assert problem.startswith(words)


def test_worker_that_needs_official_weights_refuses_without_them(complete):
    """MODELS=official names every missing file at once, and the one command to run."""
    models = complete.model_copy(update={"models": "official", "model_device": "cpu"})
    for name in ("appearance.safetensors", f"{DETECTOR}/model.safetensors"):
        (complete.model_store / name).unlink()
    with pytest.raises(WeightsMissing):
        load(models)
    with pytest.raises(WeightsMissing) as caught:
        check_official(models)
    assert str(caught.value).splitlines() == [
        "the official weights are not complete: run `python -m handler weights fetch`",
        "- appearance.safetensors: not in the store (made from hmar_v2_weights.pth)",
        f"- {DETECTOR}/model.safetensors: not there",
    ]


def test_another_body_regressor_needs_no_hmr2(complete):
    """Of what BODY_REGRESSOR replaces nothing is missing."""
    (complete.model_store / "hmr2.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"hmr2\.safetensors"):
        check_official(complete)
    check_official(complete.model_copy(update={"body_regressor": "package.module:Name"}))


def test_body_is_loaded_alone(complete):
    """To draw finished results no network is loaded, and the body is the one that they were made with."""
    for name in ("hmr2.safetensors", "store.json"):
        (complete.model_store / name).unlink()
    smpl, free = (load_body_model(name, complete) for name in ("smpl", "free"))
    rest = np.tile(np.eye(3, dtype=np.float32), (1, 24, 1, 1))
    pose = rest[:, :1], rest[:, 1:], np.zeros((1, 10), np.float32)
    assert not np.allclose(smpl.vertices(*pose), free.vertices(*pose), atol=0.01)
    (complete.model_store / "smpl.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"smpl\.safetensors is not in the weights store: run"):
        load_body_model("smpl", complete)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".safetensors", b"\x08\0\0\0\0\0\0\0" + b'{"a": 1}'),
        (".safetensors", b"\x02\0\0\0\0\0\0\0" + b"{}"),
        (".safetensors", b"\xff" * 64),
        (".json", b"[" * 100_000),
        (".yaml", b"[" * 10_000),
        (".yaml", b"\xff\xfe\xff"),
        (".pth", b"PK\x05\x06" + b"\0" * 18),
        (".npz", b"\x80\x02}."),
    ],
    ids=["header", "no-tensor", "length", "deep-json", "deep-yaml", "no-text", "empty-zip", "pickle"],
)
def test_strange_files_are_told_in_a_sentence(tmp_path, suffix, content):
    """Whatever a source gives, looking at it ends in a sentence."""
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    problem = content_problem(path, suffix)
    assert problem is not None
    assert "cannot be read" in problem
