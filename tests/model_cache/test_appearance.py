"""The appearance encoder, and comparing and mixing textures: PHALP's numbers, and who owns which memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_cache.errors import DeviceFault, DeviceOutOfMemory, WeightsInvalid
from model_cache.networks.appearance import (
    LAYERS,
    PAIRS_AT_ONCE,
    AppearanceEncoder,
    UvTexture,
    UvTextureModel,
)
from model_cache.store.load import read_tensors

# Encodings are whole numbers, exact in float32; what rounds are their scale and the sum of 16 squares.
ROUNDED = 1e-5
WIDTHS = (4, 6, 8, 8, 8, 4)


@pytest.fixture(scope="module")
def encoder(official_tiny_store):
    """The official encoder, converted from official files."""
    return AppearanceEncoder.from_state(read_tensors(official_tiny_store, "appearance"))


def small_state():
    """Random tensors of a narrower encoder."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, num_in, num_out in zip(LAYERS, (4, *WIDTHS[:-1]), WIDTHS, strict=True):
        state[f"{name}.weight"] = torch.randn(num_out, num_in, 3, 3, generator=generator)
        state[f"{name}.bias"] = torch.randn(num_out, generator=generator)
    return state


def whole_numbers(state):
    """The same tensors with -1, 0 and 1; one in eight is not 0.

    Float32 sums differ in their last bits from one processor, library and number of threads to the next.
    Sums of small whole numbers are exact, in whatever order they are taken.
    """
    return {name: (tensor > 1.5).float() - (tensor < -1.5).float() for name, tensor in state.items()}


def some_textures(*shape, seed=1):
    """Random textures."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_vectors_are_those_of_phalp(golden, encoder):
    """PHALP's stored textures encode to PHALP's `appe`, exactly but for float32 and the stored float16."""
    data = golden("texture")
    first = encoder(torch.from_numpy(data["uv_vector_0"][None])).numpy()
    others = encoder(torch.from_numpy(data["uv_vector_f16"].astype(np.float32))).numpy()
    np.testing.assert_allclose(first, data["appe"][:1], atol=1e-4, rtol=0)
    np.testing.assert_allclose(others, data["appe"][1:], atol=5e-3, rtol=0)


def test_widths_come_from_the_tensors():
    """A narrower encoder loads by its own shapes; its vector has its last width times a 16th of each side."""
    encoder = AppearanceEncoder.from_state(small_state() | {"t_conv1.weight": torch.ones(1)})
    vectors = encoder(some_textures(3, 4, 64, 32))
    assert vectors.shape == (3, 4 * 4 * 2)
    assert (vectors >= 0).all()


def test_pooling_before_the_rectifier_changes_nothing():
    """The order that saves work gives exactly conv, rectifier, pooling as the network was trained."""
    state = whole_numbers(small_state())
    textures = (5 * some_textures(2, 4, 32, 32)).floor() - 2
    maps = textures.double()
    for number, name in enumerate(LAYERS):
        weight, bias = state[f"{name}.weight"].double(), state[f"{name}.bias"].double()
        maps = torch.conv2d(maps, weight, bias, padding=1).relu()
        if number < 4:
            maps = torch.max_pool2d(maps, 2)
    assert (maps > 0).sum() >= 4
    assert torch.equal(AppearanceEncoder.from_state(state)(textures).double(), maps.flatten(1))


def test_encoder_stays_in_float32_inside_bfloat16():
    """Under autocast the encoder computes in plain float32."""
    encoder = AppearanceEncoder.from_state(small_state())
    textures = some_textures(1, 4, 32, 32)
    expected = encoder(textures)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(expected, encoder(textures))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("conv3.weight", lambda state: state.pop("conv3.weight")),
        ("conv5_1.bias", lambda state: state.pop("conv5_1.bias")),
        ("conv3.weight", lambda state: state.update({"conv3.weight": torch.zeros(8, 5, 3, 3)})),
    ],
)
def test_tensors_that_are_missing_or_do_not_fit_are_named(name, change):
    """So is a layer that expects other channels than its neighbour gives."""
    state = small_state()
    change(state)
    with pytest.raises(WeightsInvalid, match=name):
        AppearanceEncoder.from_state(state)


def small_encoder():
    """A narrow encoder with fixed whole weights."""
    return AppearanceEncoder.from_state(whole_numbers(small_state()))


@pytest.fixture(scope="module")
def model():
    """The model with a narrow encoder."""
    return UvTextureModel(small_encoder())


def textures(seed, count, *, size=32):
    """Textures as the sampler makes them: colours, here whole numbers, are zero where the mask is -1."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(count, 1, size, size, generator=generator) > 0.4).float()
    colours = torch.randn(count, 3, size, size, generator=generator).round() * mask
    return [UvTexture(texels=texels) for texels in torch.cat([colours, 2 * mask - 1], dim=1)]


def by_the_formula(encoder, track, detection):
    """PHALP's texture distance of one pair, both maps cut to the texels that both show."""
    a, b = track.texels.clone(), detection.texels.clone()
    apart = ~((a[3] > 0.5) & (b[3] > 0.5))
    a[:, apart] = 0
    b[:, apart] = 0
    encodings = [encoder(texels[None])[0].double() / 1000 for texels in (a, b)]
    return 100 * float(((encodings[0] - encodings[1]) ** 2).sum())


def test_golden_sequence_is_that_of_phalp(golden, official_tiny_store):
    """Frames 0..9 of the golden video: every texture distance, and the maps mixed until frame 9."""
    data = golden("tracker")
    model = UvTextureModel(AppearanceEncoder.from_state(read_tensors(official_tiny_store, "appearance")))
    maps = torch.from_numpy(data["det_uv16"]).repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)
    tracks = []
    for frame in range(10):
        rows = np.flatnonzero(data["det_frame"] == frame)
        seen = [UvTexture(texels=maps[row]) for row in rows]
        expected = data[f"t{frame:03d}_r_texture"]
        if frame in (1, 2, 9):  # after none, one and eight mixings; each pair takes the encoder twice
            pairs = np.stack(np.unravel_index(np.arange(expected.size), expected.shape), axis=1)
            found = model.distance(tracks, seen, pairs).reshape(expected.shape)
            np.testing.assert_allclose(found, expected, rtol=1e-4)
        for track, detection in data[f"t{frame:03d}_matches"]:
            score = float(data["det_conf"][rows[detection]])
            tracks[track] = model.mix(tracks[track], seen[detection], score)
        tracks += [model.copy(seen[detection]) for detection in data[f"t{frame:03d}_unmatched_dets"]]
    mixed = np.stack([track.texels[:, 8::16, 8::16].numpy() for track in tracks])
    np.testing.assert_allclose(mixed, data["t009_uv16"], atol=1e-6)


def test_pairs_are_compared_as_one_by_one(model):
    """More pairs than fit in one pass, in any order and repeated, or none, give each pair's own distance."""
    tracks, detections = textures(0, 3), textures(1, 4)
    pairs = np.array([[2, 0], [0, 3], [1, 1], [2, 0], [0, 0], [1, 2]])
    assert len(pairs) > PAIRS_AT_ONCE["cpu"]
    found = model.distance(tracks, detections, pairs)
    expected = [by_the_formula(small_encoder(), tracks[i], detections[j]) for i, j in pairs]
    assert min(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=ROUNDED)
    assert found.dtype == np.float64
    assert model.distance([], [], pairs[:0]).shape == (0,)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_mixing_is_that_of_phalp(model, seed, score, alpha):
    """In place and in float32, mixing equals PHALP's masked formula in float64."""
    old, new = textures(seed, 2)
    before = new.texels.clone()
    a, b = old.texels.double().numpy(), new.texels.double().numpy()
    weight = alpha * score**2
    shown_old, shown_new = a[3] == 1, b[3] == 1
    expected = np.zeros_like(a)
    expected[:3] = np.where(shown_old & shown_new, (1 - weight) * a[:3] + weight * b[:3], 0)
    expected[:3] += np.where(shown_old & ~shown_new, a[:3], 0) + np.where(shown_new & ~shown_old, b[:3], 0)
    expected[3] = np.where(shown_old | shown_new, 1, -1)
    mixed = model.mix(old, new, score, alpha=alpha)
    np.testing.assert_allclose(mixed.texels, expected, atol=2e-6)  # float32 rounds colours of up to 5 twice
    assert torch.equal(before, new.texels)
    assert mixed.texels.data_ptr() == old.texels.data_ptr()


def test_copy_keeps_no_batch_alive(model):
    """A copied texture owns one map's memory, and mixing into it leaves the original alone."""
    fresh, other = textures(0, 5)[0], textures(1, 1)[0]
    original = fresh.texels.clone()
    copied = model.copy(fresh)
    assert copied.texels.untyped_storage().nbytes() == fresh.texels.nbytes
    model.mix(copied, other, 0.9)
    assert torch.equal(original, fresh.texels)
    assert not torch.equal(original, copied.texels)


def encoder_that_fails(error, most_maps):
    """The narrow encoder, which fails when it gets more maps at once than it may."""

    def check(module, inputs):
        if len(inputs[0]) > most_maps:
            raise error

    encoder = small_encoder()
    encoder.register_forward_pre_hook(check)
    return encoder


def test_comparison_takes_fewer_pairs_when_memory_is_short(model):
    """Out of memory halves the pairs at once and gives the same distances; one pair too many is an error."""
    tracks, detections = textures(0, 2), textures(1, 3)
    pairs = np.array([[0, 0], [1, 1], [0, 2], [1, 2], [1, 0]])
    short, shorter = (UvTextureModel(encoder_that_fails(torch.OutOfMemoryError("full"), n)) for n in (2, 1))
    found, expected = (m.distance(tracks, detections, pairs) for m in (short, model))
    np.testing.assert_allclose(found, expected, rtol=ROUNDED)
    with pytest.raises(DeviceOutOfMemory, match="one pair"):
        shorter.distance(tracks, detections, pairs)


def test_failed_device_is_told_apart():
    """An error of the device itself is a `DeviceFault`, which asks for a new process."""
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")
    failed = UvTextureModel(encoder_that_fails(error, 0))
    with pytest.raises(DeviceFault, match=r"illegal memory access was encountered$"):
        failed.distance(textures(0, 1), textures(1, 1), np.array([[0, 0]]))


def test_foreign_handle_is_refused(model):
    """A texture of other models is told apart at once."""
    with pytest.raises(TypeError, match="not a object"):
        model.copy(object())


@pytest.mark.needs_gpu
def test_gpu_distances_and_mixing_are_those_of_the_cpu(golden, official_tiny_store):
    """On a GPU textures stay there and give the CPU's numbers, since TF32 is off."""
    state = read_tensors(official_tiny_store, "appearance")
    on_cpu = UvTextureModel(AppearanceEncoder.from_state(state))
    on_gpu = UvTextureModel(AppearanceEncoder.from_state(state).cuda())
    data = golden("texture")
    maps = [torch.from_numpy(data["uv_vector_f16"][row].astype(np.float32)) for row in range(3)]
    here = [UvTexture(texels=texels.clone()) for texels in maps]
    there = [UvTexture(texels=texels.cuda()) for texels in maps]
    pairs = np.array([[0, 1], [1, 2], [0, 2]])
    found = on_gpu.distance(there, there, pairs)
    np.testing.assert_allclose(found, on_cpu.distance(here, here, pairs), rtol=1e-4)
    mixed = on_gpu.mix(there[0], there[1], 0.9)
    assert mixed.texels.is_cuda
    np.testing.assert_allclose(mixed.texels.cpu(), on_cpu.mix(here[0], here[1], 0.9).texels, atol=1e-6)
