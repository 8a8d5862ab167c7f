"""HMR2 against the official packages, in float32 and with its backbone in bf16, and its batches."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from model_cache.errors import ModelOutputInvalid
from model_cache.networks.decoder import BodyParameters
from model_cache.networks.hmr2 import BodyEstimator, BodyRegressor
from model_cache.store.load import load_body, load_hmr2
from tests.hmr2_inputs import assert_official, close, keypoints_2d, normalised

# About twice what was seen: 0.67 mm of joints, 0.0023 of betas, 2.3e-4 of the crop's side, 1.8e-4 of depth.
JOINTS, BETAS, KEYPOINTS, DEPTH = 1.5e-3, 5e-3, 5e-4, 5e-4


@pytest.fixture(scope="module")
def hmr2(official_tiny_store):
    """The goldens' small HMR2, converted from its checkpoint."""
    return load_hmr2(official_tiny_store)


@pytest.fixture(scope="module")
def body(official_tiny_store):
    """The stand-in body."""
    return load_body(official_tiny_store / "smpl.safetensors")


@pytest.fixture(scope="module")
def crops(golden):
    """The four golden crops."""
    return normalised(golden("hmr2_tiny")["crops_bgr"])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_gpu)])
def test_tiny_hmr2_gives_the_official_numbers(golden, official_tiny_store, crops, device):
    """Features, decoder token and every output of a converted HMR2 are the official ones."""
    factor = 1 if device == "cpu" else 5  # another order of sums; a wrong GELU or epsilon shows far above
    expected = golden("hmr2_tiny")
    hmr2 = load_hmr2(official_tiny_store, device)
    with torch.inference_mode():
        tokens = hmr2.backbone(crops.to(device))
        token = hmr2.head.decode(tokens)
    close(tokens, expected["features"].reshape(4, 64, 192).transpose(0, 2, 1), factor * 1e-5)
    close(token, expected["token"], factor * 1e-5)
    body = load_body(official_tiny_store / "smpl.safetensors", device)
    people = BodyEstimator(hmr2, body)(crops.to(device))
    assert_official(people, expected, tolerance=factor * 2e-6, betas=factor * 2e-6, depth=factor * 1e-4)


@pytest.mark.parametrize("num", [1, 3, 4, 7], ids=lambda num: f"{num}-crops")
def test_buckets_change_no_number(hmr2, body, crops, num):
    """A batch padded to a fixed size and cut into parts gives each crop what it gets by itself."""
    seen = []
    hook = hmr2.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    many = crops[torch.arange(num) % 4]
    people = BodyEstimator(hmr2, body, largest_batch=4)(many)
    hook.remove()
    assert {1: [1], 3: [4], 4: [4], 7: [4, 4]}[num] == seen
    assert len(people.betas) == num
    for row in range(num):
        alone = BodyEstimator(hmr2, body)(many[row : row + 1])
        for field in fields(alone):
            found, expected = getattr(people, field.name)[row : row + 1], getattr(alone, field.name)
            torch.testing.assert_close(found, expected, atol=5e-6, rtol=1e-5, msg=field.name)


def test_buckets_are_powers_of_two_up_to_the_largest(hmr2, body):
    """The fixed sizes are 1, 2, 4, ... and the largest one itself."""
    assert BodyEstimator(hmr2, body).batch_sizes == (1, 2, 4, 8, 16, 32)
    assert BodyEstimator(hmr2, body, largest_batch=12).batch_sizes == (1, 2, 4, 8, 12)
    assert BodyEstimator(hmr2, body, largest_batch=1).batch_sizes == (1,)


def test_a_regressor_that_gives_other_shapes_is_named(body, crops, unchecked_types):
    """What does not keep the promise is refused in words, before the body would fail on it."""

    class TwoNumberCamera(BodyRegressor):
        def forward(self, crops):
            eye = torch.eye(3).expand(len(crops), 23, 3, 3)
            return BodyParameters(
                global_orient=eye[:, :1],
                body_pose=eye,
                betas=torch.zeros(len(crops), 10),
                crop_cam=torch.ones(len(crops), 2),
            )

    with pytest.raises(ModelOutputInvalid, match=r"TwoNumberCamera gave crop_cam of shape \(4, 2\)"):
        BodyEstimator(TwoNumberCamera(), body)(crops)


def test_bf16_stays_within_its_stated_tolerance(official_tiny_store, body, crops, golden):
    """Joints within 1.5 mm, 2D within a 2000th of the crop, depth within 0.05 %; and it is really bf16.

    Whatever follows the backbone is float32: rotations are orthonormal to float32's precision.
    """
    people = BodyEstimator(load_hmr2(official_tiny_store, precision="bf16"), body)(crops)
    expected = golden("hmr2_tiny")
    error = np.abs(people.joints_3d.numpy() - expected["keypoints_3d"]).max()
    assert 1e-5 < error < JOINTS
    close(people.betas, expected["betas"], BETAS)
    close(keypoints_2d(people), expected["keypoints_2d"], KEYPOINTS)
    np.testing.assert_allclose(people.crop_cam_t[:, 2], expected["pred_cam_t"][:, 2], atol=0, rtol=DEPTH)
    assert {getattr(people, field.name).dtype for field in fields(people)} == {torch.float32}
    product = people.body_pose @ people.body_pose.transpose(-1, -2)
    torch.testing.assert_close(product, torch.eye(3).expand_as(product), atol=2e-6, rtol=0)
