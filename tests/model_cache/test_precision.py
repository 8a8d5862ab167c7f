"""What must be exact whatever the device: boxes in bf16, numbers that are not finite, TF32, emulated bf16."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import model_cache.load
from model_cache.errors import ModelOutputInvalid
from model_cache.interfaces import PerceptionOptions
from model_cache.lite.files import run_session
from model_cache.networks.appearance import AppearanceEncoder, UvTexture, UvTextureModel
from model_cache.networks.crops import select
from model_cache.networks.detector import Detections, ReplayDetector
from model_cache.networks.device import has_bf16
from model_cache.networks.hmr2 import BodyEstimator
from model_cache.networks.rf_detr import RfDetrSegDetector, in_bf16
from model_cache.settings import ModelSettings
from model_cache.store.load import load_body, load_hmr2, read_tensors
from model_cache.upstream.perception import ReplacedDetector
from tests.model_cache.rf_detr_network import SIDE, tiny_rf_detr

EVERYBODY = PerceptionOptions(score_threshold=-1, small_w=0, small_h=0)


def detector_of(network) -> RfDetrSegDetector:
    """A detector that lets everybody through."""
    return RfDetrSegDetector(network, image_size=SIDE, score_floor=-1, weights={})


def test_the_forward_pass_is_the_librarys_own():
    """In float32 boxes, person scores and mask logits are those of transformers' own forward pass."""
    network = tiny_rf_detr()
    pixels = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32))

    with torch.inference_mode():
        expected = network(pixel_values=pixels)
        people, mask_logits = detector_of(network).run(pixels)

    torch.testing.assert_close(people[..., :4], expected.pred_boxes, rtol=0, atol=1e-6)
    torch.testing.assert_close(people[..., 4], expected.logits[..., 1].sigmoid(), rtol=0, atol=1e-6)
    torch.testing.assert_close(mask_logits, expected.pred_masks, rtol=0, atol=1e-5)


def test_boxes_in_bf16_are_those_of_float32_within_half_a_pixel():
    """At 1080p, and no two people have the same box; with all of it in bf16 they lie on a grid of 7.5 px."""
    frame = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8))
    (expected,) = detector_of(tiny_rf_detr()).detect([frame], [0])

    (found,) = detector_of(in_bf16(tiny_rf_detr())).detect([frame], [0])

    off = (found.bbox_xyxy[None] - expected.bbox_xyxy[:, None]).abs().amax(-1)
    assert off.amin(1).max() < 0.5
    assert len({tuple(box) for box in found.bbox_xyxy.tolist()}) == len(expected.scores)


def test_most_of_the_detector_is_in_bf16():
    """Backbone, projector and mask head are; what places boxes is not."""
    network = in_bf16(tiny_rf_detr())
    kinds = {name: parameter.dtype for name, parameter in network.named_parameters()}

    low = {name for name, kind in kinds.items() if kind == torch.bfloat16}
    assert all(name in low for name in kinds if not name.startswith("model.") or ".backbone." in name)
    assert not any("decoder" in name or "bbox" in name or "class" in name for name in low)


def spoil(parameter: torch.nn.Parameter) -> None:
    """One weight becomes NaN, as in a broken file or an overflow."""
    parameter.view(-1)[0] = float("nan")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("part", ["scores", "boxes", "masks", "backbone"])
def test_a_detector_that_gives_nan_is_no_empty_frame(part, precision):
    """NaN in any output of the network is an error, though every filter would call it nobody."""
    network = tiny_rf_detr()
    network = in_bf16(network) if precision == "bf16" else network
    if part == "scores":
        network.model.class_embed.bias[1] = float("nan")
    else:
        of = {
            "boxes": network.model.bbox_embed.layers[-1].bias,
            "masks": network.segmentation_bias,
            "backbone": network.model.model.backbone.projector.layer_norm.weight,
        }
        spoil(of[part])
    (found,) = detector_of(network).detect([torch.zeros(90, 160, 3, dtype=torch.uint8)], [0])

    with pytest.raises(ModelOutputInvalid, match="the detector gave numbers that are not finite"):
        select(found.bbox_xyxy.numpy(), found.scores.numpy(), EVERYBODY)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["box", "score"])
def test_selection_refuses_what_is_not_finite(value, where):
    """Of any detector; the box of somebody who is not sure enough does not matter."""
    boxes = np.tile(np.array([0, 0, 100, 200], np.float32), (2, 1))
    scores = np.array([0.9, 0.5], np.float32)
    (boxes if where == "box" else scores)[0] = value

    with pytest.raises(ModelOutputInvalid):
        select(boxes, scores, PerceptionOptions())
    assert where == "score" or select(boxes, np.float32([0.1, 0.9]), PerceptionOptions()).rows.tolist() == [1]


def test_the_other_engine_refuses_it_too():
    """Before the official filters, which would drop it."""
    nan = Detections(bbox_xyxy=np.zeros((1, 4), np.float32), scores=np.array([np.nan], np.float32))

    with pytest.raises(ModelOutputInvalid):
        ReplacedDetector(ReplayDetector({0: nan}))(np.zeros((8, 8, 3), np.uint8), 0)


def test_lite_networks_that_give_nan_are_no_empty_frame():
    """Their scores are compared with thresholds as well."""
    session = SimpleNamespace(run=lambda wanted, inputs: [np.zeros(3), np.array([0.5, np.nan])])

    with pytest.raises(ModelOutputInvalid):
        run_session(session, None, {})


def test_textures_that_compare_as_nan_are_no_strangers():
    """The tracker would take them for different people."""
    encoder = AppearanceEncoder((4,) * 6).requires_grad_(False)
    encoder.conv5_1.bias[:] = float("nan")
    texture = UvTexture(texels=torch.ones(4, 32, 32))

    with pytest.raises(ModelOutputInvalid, match="appearance"):
        UvTextureModel(encoder).distance([texture], [texture], np.array([[0, 0]]))


@pytest.fixture
def tf32():
    """TF32 is allowed, as torch has it for convolutions; afterwards as before."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = True
    yield lambda: [flag.allow_tf32 for flag in flags]
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


def test_loading_switches_tf32_off(monkeypatch, tf32, unchecked_types):
    """Before anything is loaded or warmed up."""
    seen = []
    monkeypatch.setattr(model_cache.load, "_load_native", lambda *_: seen.append(tf32()))
    monkeypatch.setattr(model_cache.load, "warm_up", lambda *_, **__: seen.append(tf32()))

    model_cache.load.load(ModelSettings(models="lite", model_device="cpu"))

    assert seen == [[False, False]] * 2


def test_a_thread_that_leaves_a_network_changes_nothing_for_another(official_tiny_store, tf32):
    """Tracking encodes textures while perception leaves HMR2; the switches are the process's."""
    store = official_tiny_store
    entered, leave, seen = threading.Event(), threading.Event(), []
    bodies = BodyEstimator(load_hmr2(store), load_body(store / "smpl.safetensors"))
    encoder = AppearanceEncoder.from_state(read_tensors(store, "appearance"))
    perception = threading.Thread(target=bodies, args=(torch.zeros(1, 3, 256, 256),))

    def wait_in_hmr2(*_) -> None:
        entered.set()
        leave.wait(60)

    def while_encoding(*_) -> None:
        seen.append(tf32())
        leave.set()
        perception.join()
        seen.append(tf32())

    bodies.regressor.register_forward_pre_hook(wait_in_hmr2)
    encoder.conv1x.register_forward_pre_hook(while_encoding)
    perception.start()
    entered.wait(60)
    encoder(torch.zeros(1, 4, 32, 32))

    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 0), False), ((7, 5), False), ((8, 0), True), ((8, 9), True), ((9, 0), True)],
    ids=["V100", "T4", "A100", "L4", "H100"],
)
def test_emulated_bf16_does_not_count(monkeypatch, capability, expected):
    """A T4 says that it supports bf16, and means an emulation slower than float32."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)

    assert expected == has_bf16(torch.device("cuda:1"))
    assert not has_bf16(torch.device("cpu"))


@pytest.mark.parametrize(("precision", "said"), [("bf16", True), ("fp32", False)])
def test_a_result_in_bf16_says_what_its_digits_depend_on(official_tiny_store, precision, said):
    """The settings that decide who shares a batch are named in every result."""
    settings = ModelSettings(
        models="official",
        model_store=official_tiny_store,
        model_device="cpu",
        model_precision=precision,
        detector="tests.model_cache.test_load:InTheMiddle",
    )

    notice = model_cache.load.load(settings).description.notice

    assert said == ("MAX_BATCH_CROPS" in notice and "WORKER_BATCH_FRAMES" in notice)
