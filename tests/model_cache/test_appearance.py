"""The appearance encoder: PHALP's golden vectors, any widths, and float32 whatever is around it."""

import numpy as np
import pytest
import torch

from model_cache.errors import WeightsInvalid
from model_cache.networks.appearance import LAYERS, AppearanceEncoder
from model_cache.store.load import read_tensors
from tests.whole_numbers import whole_numbers


@pytest.fixture(scope="module")
def encoder(official_tiny_store):
    """The official encoder, converted from official files."""
    return AppearanceEncoder.from_state(read_tensors(official_tiny_store, "appearance"))


def small_state(widths=(4, 8, 8, 8, 8, 2)):
    """Random tensors of a narrower encoder."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, num_in, num_out in zip(LAYERS, (4, *widths[:-1]), widths, strict=True):
        state[f"{name}.weight"] = torch.randn(num_out, num_in, 3, 3, generator=generator)
        state[f"{name}.bias"] = torch.randn(num_out, generator=generator)
    return state


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
    assert vectors.shape == (3, 2 * 4 * 2)
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
    """Under autocast, and with TF32 allowed around it, the encoder computes in plain float32."""
    encoder = AppearanceEncoder.from_state(small_state())
    textures = some_textures(1, 4, 32, 32)
    expected = encoder(textures)
    seen = []
    encoder.conv1x.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    allowed = torch.backends.cudnn.allow_tf32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(expected, encoder(textures))
    assert seen == [False]
    assert allowed == torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("key", ["conv3.weight", "conv5_1.bias"])
def test_missing_tensor_is_named(key):
    """A checkpoint without one of the twelve tensors is refused by its name."""
    state = small_state()
    del state[key]
    with pytest.raises(WeightsInvalid, match=key):
        AppearanceEncoder.from_state(state)


def test_layers_that_do_not_fit_are_refused():
    """A layer that expects other channels than its neighbour gives is refused."""
    state = small_state() | {"conv3.weight": torch.zeros(8, 5, 3, 3)}
    with pytest.raises(WeightsInvalid, match=r"conv3\.weight"):
        AppearanceEncoder.from_state(state)
