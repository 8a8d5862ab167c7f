"""Perception as a whole: the 20 golden frames of the official run, batching, filters, failures."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from model_cache.errors import DeviceFault, DeviceOutOfMemory, ModelOutputInvalid
from model_cache.interfaces import People, PerceptionOptions
from model_cache.load import load_uv_map
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.detector import Detector, ReplayDetector
from model_cache.networks.hmr2 import BodyEstimator
from model_cache.networks.texture import TextureSampler
from model_cache.perception import NativePerception
from model_cache.store.load import load_body, load_hmr2, read_tensors
from tests.goldens import golden_detections

FRAMES = 20


@pytest.fixture(scope="module")
def clip(golden):
    """The golden clip's frames, its detector output per frame, and what the official run gave."""
    data = golden("e2e")
    return data["frames"], golden_detections(), data


def build(store, detector, *, regressor=None, max_crops: int = 32, device: str = "cpu") -> NativePerception:
    """Perception with the goldens' tiny networks."""
    where = torch.device(device)
    body = load_body(store / "smpl.safetensors", where)
    return NativePerception(
        detector=detector,
        bodies=BodyEstimator(regressor or load_hmr2(store, where), body, largest_batch=max_crops),
        sampler=TextureSampler(uv_map=load_uv_map(store), faces=body.faces, device=where),
        device=where,
        max_crops=max_crops,
    )


@pytest.fixture(scope="module")
def perception(official_tiny_store, clip) -> NativePerception:
    """Perception on the recorded detections of the golden clip."""
    return build(official_tiny_store, ReplayDetector(clip[1]))


OPTIONS = PerceptionOptions(masks=True)


@pytest.fixture(scope="module")
def perceived(perception, clip) -> list[People]:
    """The golden clip's people, in batches of seven frames."""
    return in_batches(perception, clip[0], 7)


def in_batches(perception, frames, size: int, options=OPTIONS) -> list[People]:
    """All frames through perception, so many at a time."""
    people = []
    for start in range(0, len(frames), size):
        batch = list(frames[start : start + size])
        people += perception.perceive(batch, list(range(start, start + len(batch))), options)
    return people


def stacked(people: list[People], name: str) -> np.ndarray:
    """One field of all people of all frames."""
    return np.concatenate([getattr(image, name) for image in people])


def test_perception_finds_the_golden_people(perceived, clip):
    """The people of each frame are those that passed the official filters, one row each in every field."""
    counts = [len(image.scores) for image in perceived]

    assert np.bincount(clip[2]["feat_frame"], minlength=FRAMES).tolist() == counts
    assert counts[13] == 0
    for image, count in zip(perceived, counts, strict=True):
        assert {len(getattr(image, field.name)) for field in fields(image)} == {count}


def test_perception_gives_the_golden_textures(perceived, clip, official_tiny_store):
    """Masks, colours and the appearance vectors made of them are the official ones, but for a few texels.

    Masks differ in at most 0.3 % of the texels, at the verge of sight; colours by at most 2e-3 where both
    show one; the vectors by 6 %.
    """
    expected = np.unpackbits(clip[2]["feat_uv_mask_packed"], axis=-1).astype(bool)
    encoder = AppearanceEncoder.from_state(read_tensors(official_tiny_store, "appearance"))
    textures = torch.stack([t.texels for image in perceived for t in image.textures])
    shown = textures[:, 3].numpy() > 0
    both = (shown & expected)[:, None, 4::8, 4::8]
    colours_off = textures[:, :3, 4::8, 4::8].numpy() - clip[2]["feat_uv_rgb_sub8_f16"]
    off = np.linalg.norm(encoder(textures).numpy() - clip[2]["feat_appe"], axis=1)

    assert (shown != expected).mean(axis=(1, 2)).max() <= 0.003
    assert np.abs(np.where(both, colours_off, 0)).max() <= 2e-3
    assert (off / np.linalg.norm(clip[2]["feat_appe"], axis=1)).max() <= 0.06


@pytest.mark.parametrize(("num_frames", "max_crops"), [(1, 32), (5, 2)])
def test_batches_change_nothing(official_tiny_store, perceived, clip, num_frames, max_crops):
    """One frame at a time, or crops two at a time, gives what seven frames at a time give."""
    perception = build(official_tiny_store, ReplayDetector(clip[1]), max_crops=max_crops)

    people = in_batches(perception, clip[0][:5], num_frames)

    assert [len(image) for image in perceived[:5]] == [len(image) for image in people]
    for name in ("bbox_xyxy", "scores", "detection_index", "bbox_padded_xyxy"):
        assert np.array_equal(stacked(perceived[:5], name), stacked(people, name))
    for name in ("rotations", "betas", "crop_cam", "joints_3d", "smpl_joints_3d"):
        np.testing.assert_allclose(stacked(perceived[:5], name), stacked(people, name), atol=5e-6)
    assert [image.mask_rle for image in perceived[:5]] == [image.mask_rle for image in people]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (PerceptionOptions(), [0, 1]),
        (PerceptionOptions(small_w=0, small_h=0), [0, 1, 2]),
        (PerceptionOptions(small_w=0, small_h=0, score_threshold=0.5), [0, 1, 2, 3]),
        (PerceptionOptions(small_w=0, small_h=0, max_people=1), None),
    ],
    ids=["official", "any size", "any size, lower score", "one person"],
)
def test_filters_keep_whom_the_options_say(perception, clip, options, expected):
    """Score, size and number of people are filtered as the options say; nor are masks given unasked."""
    image = perception.perceive([clip[0][0]], [0], options)[0]
    recorded = clip[1][0]

    assert image.mask_rle is None
    if expected is None:
        assert image.scores.tolist() == [recorded.scores.max()]
    else:
        assert image.detection_index.tolist() == expected
        assert np.array_equal(recorded.bbox_xyxy[expected], image.bbox_xyxy)


class Failing(Detector):
    """Perception's detector, which fails when it sees more frames than it may."""

    def __init__(self, inner, error: Exception, most_frames: int) -> None:
        self.inner, self.error, self.most_frames = inner, error, most_frames
        self.seen: list[int] = []

    def detect(self, frames_bgr, frame_indices):
        """As the inner detector, or the error."""
        self.seen.append(len(frames_bgr))
        if len(frames_bgr) > self.most_frames:
            raise self.error
        return self.inner.detect(frames_bgr, frame_indices)

    def warm_up(self, frames_bgr):
        """Recorded detections have no blank frames."""
        self.warmed = len(frames_bgr)


def test_warm_up_goes_the_way_of_a_job_and_changes_nothing(official_tiny_store, perceived, clip):
    """It ends in textures like a job's, and the people after it are the same as without it."""
    detector = Failing(ReplayDetector(clip[1]), RuntimeError(), most_frames=FRAMES)
    warm = build(official_tiny_store, detector)

    textures = warm.warm_up(num_frames=2)

    assert detector.warmed == 2
    assert textures[0].texels.shape == perceived[0].textures[0].texels.shape
    people = warm.perceive(list(clip[0][:7]), list(range(7)), OPTIONS)
    assert np.array_equal(stacked(perceived[:7], "betas"), stacked(people, "betas"))


def test_out_of_memory_halves_the_batch_and_goes_on(official_tiny_store, perceived, clip):
    """Eight frames that fit only in twos give the same people, none lost, none twice."""
    failing = Failing(ReplayDetector(clip[1]), torch.OutOfMemoryError("full"), most_frames=2)

    people = build(official_tiny_store, failing).perceive(list(clip[0][:8]), list(range(8)), OPTIONS)

    assert failing.seen == [8, 4, 2, 2, 4, 2, 2]
    assert np.array_equal(stacked(perceived[:8], "bbox_xyxy"), stacked(people, "bbox_xyxy"))
    np.testing.assert_allclose(stacked(perceived[:8], "betas"), stacked(people, "betas"), atol=5e-6)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("full"), DeviceOutOfMemory("one frame alone")),
        (torch.AcceleratorError("illegal access"), DeviceFault("illegal access")),
    ],
    ids=["one frame does not fit", "the device failed"],
)
def test_failures_are_told_apart(official_tiny_store, clip, error, told):
    """One frame that does not fit and a device that needs a new process are errors of their own."""
    failing = build(official_tiny_store, Failing(ReplayDetector(clip[1]), error, most_frames=0))

    with pytest.raises(type(told), match=str(told)):
        failing.perceive(list(clip[0][:2]), [0, 1], OPTIONS)


def test_numbers_that_are_not_finite_are_an_error(official_tiny_store, clip):
    """A network that gives NaN stops the job instead of writing it."""
    regressor = load_hmr2(official_tiny_store)
    regressor.head.query.fill_(float("nan"))
    broken = build(official_tiny_store, ReplayDetector(clip[1]), regressor=regressor)

    with pytest.raises(ModelOutputInvalid):
        broken.perceive([clip[0][0]], [0], OPTIONS)


@pytest.mark.needs_gpu
def test_the_gpu_gives_what_the_cpu_gives(official_tiny_store, perceived, clip):
    """On a GPU in fp32 the people are the CPU's within 5e-5; crops are the same bytes."""
    gpu = build(official_tiny_store, ReplayDetector(clip[1]), device="cuda")

    people = in_batches(gpu, clip[0], 7)

    for name in ("rotations", "betas", "crop_cam", "joints_3d"):
        np.testing.assert_allclose(stacked(perceived, name), stacked(people, name), atol=5e-5)
    assert [image.mask_rle for image in perceived] == [image.mask_rle for image in people]
