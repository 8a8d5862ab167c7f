"""HMR2 with its backbone in bf16: how far from the official numbers, and what stays float32."""

import numpy as np
import pytest
import torch

from model_cache.networks.hmr2 import BodyEstimator
from model_cache.store.load import load_body, load_hmr2
from tests.hmr2_inputs import crop_keypoints, normalised

# About twice what was seen: 0.67 mm of joints, 0.0023 of betas, 2.3e-4 of the crop's side, 1.8e-4 of depth.
JOINTS, BETAS, KEYPOINTS, DEPTH = 1.5e-3, 5e-3, 5e-4, 5e-4


@pytest.fixture(scope="module")
def people(official_tiny_store, golden):
    """The golden crops through the small HMR2 in bf16."""
    body = load_body(official_tiny_store / "smpl.safetensors")
    hmr2 = load_hmr2(official_tiny_store, precision="bf16")
    return BodyEstimator(hmr2, body)(normalised(golden("hmr2_tiny")["crops_bgr"]))


def test_bf16_stays_within_its_stated_tolerance(people, golden):
    """Joints within 1.5 mm, 2D within a 2000th of the crop, depth within 0.05 %; and it is really bf16."""
    expected = golden("hmr2_tiny")
    error = np.abs(people.joints_3d.numpy() - expected["keypoints_3d"]).max()
    assert 1e-5 < error < JOINTS
    np.testing.assert_allclose(people.betas.numpy(), expected["betas"], atol=BETAS, rtol=0)
    np.testing.assert_allclose(crop_keypoints(people), expected["keypoints_2d"], atol=KEYPOINTS, rtol=0)
    np.testing.assert_allclose(
        people.crop_cam_t[:, 2].numpy(), expected["pred_cam_t"][:, 2], atol=0, rtol=DEPTH
    )


def test_head_body_and_camera_stay_float32(people):
    """Whatever follows the backbone is float32: rotations are orthonormal to float32's precision."""
    for name in type(people).__dataclass_fields__:
        assert getattr(people, name).dtype == torch.float32
    product = people.body_pose @ people.body_pose.transpose(-1, -2)
    torch.testing.assert_close(product, torch.eye(3).expand_as(product), atol=2e-6, rtol=0)
