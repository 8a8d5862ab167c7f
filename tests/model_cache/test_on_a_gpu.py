"""How the networks use a GPU, shown on a pretend one: who waits, what is held, which shapes hang on data."""

import weakref

import numpy as np
import pytest
import torch

from handler.job import TrackingOptions
from handler.people.perceive import place
from handler.people.tracker import Tracker
from handler.records import PeopleInFrame
from model_cache.interfaces import PerceptionOptions
from model_cache.load import load_uv_map
from model_cache.networks import rf_detr
from model_cache.networks.appearance import AppearanceEncoder, UvTextureModel
from model_cache.networks.detector import Candidates, Detector
from model_cache.networks.device import to_device, to_host
from model_cache.networks.hmr2 import BodyEstimator
from model_cache.networks.pose_predictor import TransformerPosePredictor
from model_cache.networks.rf_detr import RfDetrSegDetector, in_bf16
from model_cache.networks.smpl import SmplBody
from model_cache.networks.texture import TextureSampler
from model_cache.perception import NativePerception
from model_cache.store.load import load_body, load_hmr2, load_pose_predictor, read_tensors
from tests.handler.results.factories import make_info
from tests.model_cache.rf_detr_network import SIDE, tiny_rf_detr
from tests.pretend_cuda import CUDA, is_there, pretend_cuda, put

HEIGHT, WIDTH = 90, 160
ANYBODY = {"score_threshold": -1.0, "small_w": 0.0, "small_h": 0.0}  # random networks are sure of nobody


def frames(count: int) -> list[np.ndarray]:
    """Random upright frames."""
    return list(np.random.default_rng(0).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8))


@pytest.fixture
def gpu():
    """What happens on the pretend device while the test runs."""
    with pretend_cuda() as counts:
        yield counts


def perception_on(device, store, *, detector=None, precision="fp32", max_crops=32) -> NativePerception:
    """Perception with tiny networks."""
    on_device = put if device.type == "cuda" else lambda module: module
    network = tiny_rf_detr()
    network = on_device(in_bf16(network) if precision == "bf16" else network)
    body = on_device(load_body(store / "smpl.safetensors"))
    regressor = on_device(load_hmr2(store, precision=precision))
    return NativePerception(
        detector=detector or RfDetrSegDetector(network, image_size=SIDE, score_floor=-1, weights={}),
        bodies=BodyEstimator(regressor, body, largest_batch=max_crops),
        sampler=TextureSampler(uv_map=load_uv_map(store), faces=body.faces, device=device),
        device=device,
        max_crops=max_crops,
    )


def test_a_batch_waits_four_times(official_tiny_store, gpu):
    """Eight frames, five people each: detections, pixels to draw in each of two batches of crops, results.

    Nothing goes up from memory that makes the host wait, the frames in one copy, and nothing on the device
    has a shape that hangs on numbers there.
    """
    perception = perception_on(CUDA, official_tiny_store, precision="bf16")
    gpu.clear()

    people = perception.perceive(frames(8), range(8), PerceptionOptions(**ANYBODY, max_people=5))

    assert [len(image) for image in people] == [5] * 8
    assert gpu.waits == {"synchronize": 4}
    assert gpu.uploads == {"pinned": 1 + 2 * 2}  # frames; where to cut and colour levels of each batch
    assert not gpu.hanging_shapes


def test_masks_cost_a_wait_per_batch_of_crops(official_tiny_store, gpu):
    """Masks of all frames of a batch of crops come to the host together."""
    perception = perception_on(CUDA, official_tiny_store)
    gpu.clear()

    perception.perceive(frames(2), range(2), PerceptionOptions(**ANYBODY, max_people=2, masks=True))

    assert gpu.waits == {"synchronize": 4}  # detections, pixels to draw, masks, results


def test_nobody_waits_once(official_tiny_store, gpu):
    """Where nobody is found, only the detections are waited for."""
    perception = perception_on(CUDA, official_tiny_store)
    gpu.clear()

    people = perception.perceive(frames(2), range(2), PerceptionOptions(score_threshold=0.9))

    assert [len(image) for image in people] == [0, 0]
    assert gpu.waits == {"synchronize": 1}


def test_networks_neither_wait_nor_ask_the_device_for_a_shape(official_tiny_store, gpu):
    """Detector, HMR2 with its body, and texture encoder could each be captured as a CUDA graph."""
    detector = RfDetrSegDetector(put(tiny_rf_detr()), image_size=SIDE, score_floor=0, weights={})
    store = official_tiny_store
    bodies = BodyEstimator(put(load_hmr2(store)), put(load_body(store / "smpl.safetensors")))
    encoder = put(AppearanceEncoder.from_state(read_tensors(store, "appearance")))
    gpu.clear()

    with torch.inference_mode():
        detector.run(torch.zeros(2, 3, SIDE, SIDE, device=CUDA))
        bodies(torch.zeros(3, 3, 256, 256, device=CUDA))
        encoder(torch.zeros(2, 4, 64, 64, device=CUDA))

    assert gpu.launches
    assert not gpu.waits
    assert not gpu.hanging_shapes
    assert not gpu.uploads


def test_the_pretend_gpu_gives_what_the_cpu_gives(official_tiny_store):
    """Perception on the device is perception on the CPU: the same people, bodies and textures."""
    options = PerceptionOptions(**ANYBODY, max_people=2, masks=True)
    cpu = perception_on(torch.device("cpu"), official_tiny_store)
    (expected,) = cpu.perceive(frames(1), [0], options)

    with pretend_cuda():
        (found,) = perception_on(CUDA, official_tiny_store).perceive(frames(1), [0], options)
        textures = [texture.texels.cpu() for texture in found.textures]

    assert expected.mask_rle == found.mask_rle
    for name in ("bbox_xyxy", "scores", "rotations", "betas", "crop_cam", "joints_3d"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-5)
    for texels, texture in zip(textures, expected.textures, strict=True):
        assert (texels != texture.texels).float().mean() < 0.01  # at the verge of sight


def test_tracking_waits_twice_a_frame(official_tiny_store, gpu):
    """Texture distances are waited for, and predicted poses; mixing and copying textures is not."""
    store = official_tiny_store
    perception = perception_on(CUDA, store)
    (image,) = perception.perceive(frames(1), [0], PerceptionOptions(**ANYBODY, max_people=2))
    encoder = put(AppearanceEncoder.from_state(read_tensors(store, "appearance")))
    predictor = TransformerPosePredictor(load_pose_predictor(store), CUDA)
    tracker = Tracker(UvTextureModel(encoder), predictor, TrackingOptions())
    waits, launches = [], []

    for index in range(3):
        gpu.clear()
        tracker.update(PeopleInFrame(info=make_info(index), people=place(image, WIDTH, HEIGHT)))
        waits.append(gpu.waits.total())
        launches.append(gpu.launches.total())

    assert {"synchronize"} == set(gpu.waits)
    assert waits == [0, 2, 2]
    assert all(launches)


def test_a_bodys_joints_wait_once(official_tiny_store, gpu):
    """For people who are lost and shown, both sets of joints come in one piece."""
    body = SmplBody(put(load_body(official_tiny_store / "smpl.safetensors")))
    eye = np.tile(np.eye(3, dtype=np.float32), (2, 24, 1, 1))
    gpu.clear()

    body.joints(eye[:, :1], eye[:, 1:], np.zeros((2, 10), np.float32))

    assert gpu.waits == {"synchronize": 1}
    assert gpu.uploads == {"pinned": 1}


def test_arrays_go_up_in_one_copy_and_come_down_in_one_wait(gpu):
    """Shapes and numbers survive; frames of different sizes share the copy."""
    given = [np.arange(6, dtype=np.float32).reshape(2, 3), np.full((1, 2), 7, np.float32)]

    there = to_device(given, CUDA)
    back = to_host(*there)

    assert all(is_there(tensor) for tensor in there)
    assert gpu.uploads == {"pinned": 1}
    assert gpu.waits == {"synchronize": 1}
    for array, copy in zip(given, back, strict=True):
        assert np.array_equal(array, copy)


def test_tensors_of_two_devices_do_not_mix(gpu):
    """What CUDA refuses, the pretend device refuses: it would be useless otherwise."""
    with pytest.raises(RuntimeError, match="add got tensors on cuda:0 and on the cpu"):
        torch.ones(2, device=CUDA) + torch.ones(2)
    with pytest.raises(TypeError, match="numpy"):
        torch.ones(2, device=CUDA).numpy()


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (lambda there: there[there > 0], "index"),
        (lambda there: there.nonzero(), "nonzero"),
        (lambda there: there.sum().item(), "_local_scalar_dense"),
        (lambda there: there.cpu(), "copy to the host"),
        (lambda there: torch.ones(2).to(there.device), "copy from pageable memory"),
        (lambda there: torch.tensor([1.0], device=there.device), "copy from pageable memory"),
        (lambda there: there[torch.tensor([0])], "an index from the host"),
        (lambda there: there.tolist(), "copy to the host"),
    ],
)
def test_hidden_waits_are_noticed(gpu, work, kind):
    """Whatever makes the host wait on CUDA is counted."""
    work(torch.ones(3, device=CUDA))

    assert {kind: 1} == gpu.waits


@pytest.mark.parametrize(("height", "width", "at_once"), [(1080, 1920, 8), (2160, 3840, 2)])
def test_masks_are_painted_in_bounded_memory(monkeypatch, height, width, at_once):
    """Beside the masks themselves, never more than 64 MB of logits: 20 people in 4K were 660 MB."""
    painted = []

    def interpolate(logits, size, **more):
        painted.append(logits.shape[1])
        return torch.ones(()).expand(1, logits.shape[1], *size)

    monkeypatch.setattr(rf_detr.F, "interpolate", interpolate)

    masks = rf_detr.paint(torch.zeros(20, 4, 4), height, width)

    assert masks.shape == (20, height, width)
    assert max(painted) == at_once
    assert sum(painted) == 20
    assert at_once * height * width * 4 <= 64 * 2**20


class Crowd(Detector):
    """Twenty people in each frame; remembers the masks that are alive."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
        self.most = 0

    def detect(self, frames_bgr, frame_indices):
        box = torch.tensor([[10.0, 10, 60, 80]]).repeat(20, 1)
        return [Candidates(bbox_xyxy=box, scores=torch.ones(20), paint_masks=self.paint) for _ in frames_bgr]

    def paint(self, rows):
        masks = torch.ones((len(rows), HEIGHT, WIDTH), dtype=torch.bool)
        self.alive.add(masks)
        self.most = max(self.most, sum(len(mask) for mask in self.alive))
        return masks


def test_only_one_batch_of_crops_has_masks(official_tiny_store):
    """In a crowd the masks of a frame are gone before those of the next are painted."""
    crowd = Crowd()
    perception = perception_on(torch.device("cpu"), official_tiny_store, detector=crowd)

    perception.perceive(frames(3), range(3), PerceptionOptions(small_w=0, small_h=0))

    assert crowd.most == 20
