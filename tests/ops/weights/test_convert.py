"""From official files to the store: what is kept, what is left out and why, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.store.files import sha256_of
from model_cache.store.load import load_hmr2, read_config
from model_cache.store.pickles import read_checkpoint
from ops.weights.convert import convert
from tests.goldens import load_golden
from tests.weight_rule import weight

CHECKPOINTS = {
    "hmr2": ("epoch=35-step=1000000.ckpt", "state_dict"),
    "appearance": ("hmar_v2_weights.pth", "model"),
    "pose_predictor": ("pose_predictor.pth", "state_dict"),
}


def find(folder: Path, name: str) -> Path:
    """The one file of that name."""
    return next(folder.rglob(name))


def changed(files: Path, into: Path, model: str, change) -> Path:
    """A copy of a model's checkpoint after `change(tensors)`, under its own name."""
    name, entry = CHECKPOINTS[model]
    content = read_checkpoint(find(files, name))
    state = dict(content[entry])
    change(state)
    torch.save({entry: state}, into / name)
    return into / name


def test_store_holds_the_five_models_and_their_hashes(official_tiny_files, official_tiny_store):
    """Each file is there, and store.json has the size and SHA-256 of it and of what it was made from."""
    report = json.loads((official_tiny_store / "store.json").read_text())
    assert set(report["models"]) == {"hmr2", "smpl", "appearance", "pose_predictor", "uv_map"}
    for facts in report["models"].values():
        for name, file in facts["files"].items():
            assert file["sha256"] == sha256_of(official_tiny_store / name)
            assert file["bytes"] == (official_tiny_store / name).stat().st_size
        for file in facts["sources"].values():
            assert file["sha256"] == sha256_of(find(official_tiny_files, file["name"]))
        assert facts["notes"] == []
    written = {name for facts in report["models"].values() for name in facts["files"]} | {"store.json"}
    assert written == {path.name for path in official_tiny_store.iterdir()}


@pytest.mark.parametrize("model", CHECKPOINTS)
def test_every_official_key_is_used_or_left_out_with_a_reason(
    official_tiny_files, official_tiny_store, model
):
    """No key of a checkpoint is passed over in silence."""
    name, entry = CHECKPOINTS[model]
    keys = set(read_checkpoint(find(official_tiny_files, name))[entry])
    report = json.loads((official_tiny_store / "store.json").read_text())["models"][model]
    ignored = report["ignored_keys"]
    assert ignored.keys() <= keys
    assert all(ignored.values())
    assert any(key.startswith("discriminator.") for key in ignored) == (model == "hmr2")
    used = len(keys) - len(ignored)
    stored = len(load_file(official_tiny_store / f"{model}.safetensors"))
    # HMR2's query is made of two tensors; the predictor's file also holds its mean and deviation.
    assert used == {"hmr2": stored + 1, "appearance": stored, "pose_predictor": stored - 2}[model]


def test_tensors_arrive_unchanged(official_tiny_store):
    """Appearance encoder and pose predictor keep official names, without wrapper, and exact numbers."""
    encoder = load_file(official_tiny_store / "appearance.safetensors")
    name = "conv5_1.weight"
    np.testing.assert_array_equal(encoder[name].numpy(), weight(f"encoding_head.{name}", encoder[name].shape))
    predictor = load_file(official_tiny_store / "pose_predictor.safetensors")
    name = "pose_shape_encoder.0.weight"  # the one that the official loader loses
    np.testing.assert_array_equal(predictor[name].numpy(), weight(f"encoder.{name}", predictor[name].shape))
    params = load_golden("standin_params")
    np.testing.assert_array_equal(predictor["pose_mean"][:226].numpy(), params["pose_mean"][0])
    np.testing.assert_array_equal(predictor["pose_std"].numpy()[-4:], [params["pose_std"][0, -1], 1, 1, 1])
    maps = load_golden("standin_uvmaps")
    uv_map = load_file(official_tiny_store / "uv_map.safetensors")
    np.testing.assert_array_equal(uv_map["bmap"].numpy(), maps["bmap"])
    np.testing.assert_array_equal(uv_map["fmap"].numpy(), maps["fmap"])


def test_sizes_come_from_the_checkpoints(official_tiny_store):
    """The JSON files hold the small networks' sizes, not the official defaults."""
    hmr2 = read_config(official_tiny_store, "hmr2")
    assert hmr2["vit"] == {"dim": 64, "depth": 2, "heads": 2, "mlp_dim": 256}
    assert hmr2["head"]["dim_head"] == 32
    predictor = read_config(official_tiny_store, "pose_predictor")
    assert predictor == {"format": 1, "heads": 2, "conv_pad": 1, "conv_stride": 5}


def old_format(files: Path, into: Path) -> Path:
    """The appearance checkpoint as torch.save wrote it before 1.6."""
    path = into / "hmar_v2_weights.pth"
    torch.save(read_checkpoint(find(files, path.name)), path, _use_new_zipfile_serialization=False)
    return path


def no_prefix(files: Path, into: Path) -> Path:
    """The predictor's checkpoint with keys that carry no `encoder.`."""

    def strip(state: dict[str, torch.Tensor]) -> None:
        for key in list(state):
            state[key.removeprefix("encoder.")] = state.pop(key)

    return changed(files, into, "pose_predictor", strip)


def plain_statistics(files: Path, into: Path) -> Path:
    """The predictor's statistics as one plain array of two rows."""
    params = load_golden("standin_params")
    path = into / "mean_std.npy"
    np.save(path, np.stack((params["pose_mean"], params["pose_std"])))
    return path


@pytest.mark.parametrize(
    ("variant", "model"),
    [(old_format, "appearance"), (no_prefix, "pose_predictor"), (plain_statistics, "pose_predictor")],
)
def test_other_forms_of_a_file_convert_to_the_same(
    official_tiny_files, official_tiny_store, tmp_path, variant, model
):
    """The store gets the same bytes from every form that a file comes in."""
    path = variant(official_tiny_files, tmp_path)
    convert([path, official_tiny_files], tmp_path / "store", only=(model,))
    name = f"{model}.safetensors"
    assert sha256_of(tmp_path / "store" / name) == sha256_of(official_tiny_store / name)


HEAD = "smpl_head.decpose.weight"
BAD_CHECKPOINTS = {
    "missing": ("hmr2", lambda s: s.pop(HEAD), f"1 needed tensors are missing: {HEAD}"),
    "misshapen": ("hmr2", lambda s: s.update({HEAD: torch.zeros(3, 3)}), r"decpose.weight is \(3, 3\)"),
    "integers": ("hmr2", lambda s: s.update({HEAD: s[HEAD].long()}), "not of a float type: .*decpose"),
    "not-finite": ("hmr2", lambda s: s.update({HEAD: s[HEAD] * torch.nan}), "to_pose.weight.*not finite"),
    "unknown-part": ("hmr2", lambda s: s.update({"backbone.extra": torch.zeros(1)}), "backbone.extra"),
    "other-model": ("hmr2", lambda s: s.clear(), "`backbone.pos_embed` is missing"),
    "fewer-layers": (
        "hmr2",
        lambda s: s.update({"backbone.blocks.7.norm1.bias": torch.zeros(64)}),
        "unknown network part.*blocks.7",
    ),
    "two-encoders": (
        "appearance",
        lambda s: s.update({"ema.encoding_head.conv2.bias": torch.zeros(64)}),
        "more than one `encoding_head.`",
    ),
    "no-encoder": ("appearance", lambda s: s.clear(), "12 needed tensors are missing: conv1x.weight"),
    "predictor-part": (
        "pose_predictor",
        lambda s: s.update({"encoder.conv_more.weight": torch.zeros(1)}),
        "conv_more",
    ),
    "predictor-layer": (
        "pose_predictor",
        lambda s: s.pop("encoder.pose_shape_encoder.2.bias"),
        "missing: pose_shape_encoder.2.bias",
    ),
}


@pytest.mark.parametrize(("model", "change", "words"), BAD_CHECKPOINTS.values(), ids=BAD_CHECKPOINTS)
def test_wrong_checkpoints_are_refused(official_tiny_files, tmp_path, model, change, words):
    """A checkpoint that is not exactly the expected network is refused with the tensor's name."""
    path = changed(official_tiny_files, tmp_path, model, change)
    with pytest.raises(WeightsInvalid, match=words):
        convert([path, official_tiny_files], tmp_path / "store", only=(model,))
    assert list((tmp_path / "store").glob("*")) == []


BAD_SETTINGS = {
    "iterations": ("model_config.yaml", "MODEL.SMPL_HEAD.IEF_ITERS", 3, "IEF_ITERS` is 3, only 1"),
    "backbone": ("model_config.yaml", "MODEL.BACKBONE.TYPE", "resnet", "only 'vit' is supported"),
    "heads": ("model_config.yaml", "MODEL.SMPL_HEAD.TRANSFORMER_DECODER.heads", 3, "3 heads of 32 do not"),
    "text": ("model_config.yaml", "MODEL.SMPL_HEAD.TRANSFORMER_DECODER.heads", "two", "int is needed"),
    "vit-heads": ("model_config.yaml", "MODEL.BACKBONE.NUM_HEADS", 0, "MODEL.BACKBONE.NUM_HEADS"),
    "predictor-heads": ("pose_predictor.yaml", "configs.transformer.heads", 5, "5 heads of 16 do not"),
    "predictor-stride": ("pose_predictor.yaml", "configs.transformer.conv.stride", 4, "kernel of 7"),
    "predictor-extra": ("pose_predictor.yaml", "configs.extra_feat.enable", "apperance", "only poses"),
}


@pytest.mark.parametrize(("name", "dotted", "value", "words"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_settings_that_do_not_fit_are_refused(official_tiny_files, tmp_path, name, dotted, value, words):
    """A YAML file that says what the checkpoint or this code does not is refused."""
    config = yaml.safe_load(find(official_tiny_files, name).read_text())
    *groups, last = dotted.split(".")
    node = config
    for group in groups:
        node = node[group]
    node[last] = value
    (tmp_path / name).write_text(yaml.safe_dump(config))
    model = "hmr2" if name == "model_config.yaml" else "pose_predictor"
    with pytest.raises(WeightsInvalid, match=words):
        convert([tmp_path / name, official_tiny_files], tmp_path / "store", only=(model,))


def test_failed_conversion_leaves_the_store_as_it_was(official_tiny_files, official_tiny_store, tmp_path):
    """A broken file replaces nothing, and models converted before stay."""
    store = tmp_path / "store"
    shutil.copytree(official_tiny_store, store)
    before = {path.name: sha256_of(path) for path in store.iterdir()}
    path = changed(official_tiny_files, tmp_path, "hmr2", BAD_CHECKPOINTS["not-finite"][1])
    with pytest.raises(WeightsInvalid):
        convert([path, official_tiny_files], store)
    assert {path.name: sha256_of(path) for path in store.iterdir()} == before


def test_missing_files_are_all_named_with_where_to_get_them(tmp_path, monkeypatch):
    """One message lists every official file that was not found."""
    with pytest.raises(WeightsMissing) as caught:
        convert([tmp_path], tmp_path / "store")
    for words in ("model_config.yaml", "SMPL_NEUTRAL.pkl", "smpl.is.tue.mpg.de", "bmap_256.npy"):
        assert words in str(caught.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsMissing, match=f"no such file or folder: {tmp_path}/nowhere; name the"):
        convert([Path("nowhere")], tmp_path / "store")


def test_two_different_files_for_one_purpose_are_refused(official_tiny_files, tmp_path):
    """Copies of one file are fine; two versions need the operator's word, which a named file is."""
    source = find(official_tiny_files, "fmap_256.npy")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(source, tmp_path / name)
    paths = [tmp_path / "a", tmp_path / "b", find(official_tiny_files, "bmap_256.npy")]
    convert(paths, tmp_path / "store", only=("uv_map",))
    np.save(tmp_path / "b" / "fmap_256.npy", np.zeros((256, 256), np.int64))
    with pytest.raises(WeightsInvalid, match="several different files for `uv_faces`"):
        convert(paths, tmp_path / "store", only=("uv_map",))
    convert([*paths, source], tmp_path / "store", only=("uv_map",))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("fmap_256.npy", np.zeros((16, 16)), r"\(256, 256\) integers"),
        ("fmap_256.npy", np.full((256, 256), 0.5), r"\(256, 256\) integers"),
        ("bmap_256.npy", np.zeros((256, 256), np.float32), r"\(256, 256, 3\) floats"),
        ("mean_std.npy", np.zeros((2, 1, 100)), "226 numbers"),
        ("mean_std.npy", np.full((2, 1, 226), np.nan), "no mean and deviation"),
        ("SMPL_to_J19.pkl", b"noise", "cannot be read"),
        ("model_config.yaml", b"MODEL: !!python/object/apply:os.getcwd []", "not a plain YAML file"),
    ],
)
def test_wrong_files_are_refused(official_tiny_files, tmp_path, name, content, words):
    """An array of another shape or kind, or a file that would run code, is refused with its name."""
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(WeightsInvalid, match=f"{name}: .*{words}"):
        convert([path, official_tiny_files], tmp_path / "store")


def test_bf16_store_is_smaller_and_refuses_fp32(official_tiny_files, tmp_path):
    """Only the backbone goes down to bf16, and it is never passed off as fp32."""
    convert([official_tiny_files], tmp_path, precision="bf16", only=("hmr2", "smpl"))
    tensors = load_file(tmp_path / "hmr2.safetensors")
    for name, tensor in tensors.items():
        assert tensor.dtype == (torch.bfloat16 if name.startswith("backbone.") else torch.float32)
    with pytest.raises(WeightsInvalid, match="convert again with --precision fp32"):
        load_hmr2(tmp_path)
    assert next(load_hmr2(tmp_path, precision="bf16").backbone.parameters()).dtype == torch.bfloat16


def test_another_body_in_the_checkpoint_is_noted(official_tiny_files, tmp_path):
    """HMR2's checkpoint carries body tensors too; a difference from the SMPL file is reported."""

    def fatten(state: dict[str, torch.Tensor]) -> None:
        state["smpl.v_template"] = state["smpl.v_template"] * 1.01

    path = changed(official_tiny_files, tmp_path, "hmr2", fatten)
    report = convert([path, official_tiny_files], tmp_path / "store", only=("smpl",))
    assert report["smpl"]["notes"] == [
        "HMR2's checkpoint has another `smpl.v_template` than the SMPL file; the SMPL file is used"
    ]


@pytest.mark.parametrize("damage", ["missing", "cut", "other-network", "other-format", "no-config"])
def test_damaged_store_is_told_in_words(official_tiny_store, tmp_path, damage):
    """Loading from a store that is not whole raises a sentence on what to do."""
    store = tmp_path / "store"
    shutil.copytree(official_tiny_store, store)
    weights = store / "hmr2.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:500_000])
    elif damage == "other-network":
        shutil.copy(store / "appearance.safetensors", weights)
    elif damage == "other-format":
        (store / "hmr2.json").write_text('{"format": 99}')
    else:
        (store / "hmr2.json").write_text("{")
    error = WeightsMissing if damage == "missing" else WeightsInvalid
    with pytest.raises(error, match="convert"):
        load_hmr2(store)
