"""HMR2 in float32 against the official packages, and its batches."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from model_cache.networks.hmr2 import BucketedHmr2, crop_translation, exact_float32
from model_cache.store.load import load_hmr2
from tests.hmr2_inputs import keypoints_2d, normalised, project_to_crop

PLAIN = {
    "global_orient": "global_orient",
    "body_pose": "body_pose",
    "betas": "betas",
    "pred_cam": "crop_cam",
    "keypoints_3d": "joints_3d",
}


@pytest.fixture(scope="module")
def hmr2(official_tiny_store):
    """The goldens' small HMR2, converted from its checkpoint."""
    return load_hmr2(official_tiny_store)


@pytest.fixture(scope="module")
def crops(golden):
    """The four golden crops."""
    return normalised(golden("hmr2_tiny")["crops_bgr"])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_gpu)])
def test_tiny_hmr2_gives_the_official_numbers(golden, official_tiny_store, crops, device):
    """Features, decoder token and every output of a converted HMR2 are the official ones."""
    factor = 1 if device == "cpu" else 5  # another order of sums; a wrong GELU or epsilon shows far above
    expected = golden("hmr2_tiny")

    def close(ours: torch.Tensor, official: np.ndarray, tolerance: float) -> None:
        np.testing.assert_allclose(ours.cpu().numpy(), official, atol=factor * tolerance, rtol=0)

    hmr2 = load_hmr2(official_tiny_store, device)
    with torch.inference_mode(), exact_float32():
        tokens = hmr2.backbone(crops.to(device))
        token = hmr2.head.decode(tokens)
    close(tokens, expected["features"].reshape(4, 64, 192).transpose(0, 2, 1), 1e-5)
    close(token, expected["token"], 1e-5)
    people = BucketedHmr2(hmr2)(crops.to(device))
    for official, ours in PLAIN.items():
        close(getattr(people, ours), expected[official], 2e-6)
    close(keypoints_2d(people), expected["keypoints_2d"], 2e-6)
    close(people.vertices[:, ::10], expected["vertices_sub"], 2e-6)
    close(people.crop_cam_t[:, :2], expected["pred_cam_t"][:, :2], 2e-6)
    close(people.crop_cam_t[:, 2], expected["pred_cam_t"][:, 2], 1e-4)


@pytest.mark.parametrize("num", [1, 3, 4, 7], ids=lambda num: f"{num}-crops")
def test_buckets_change_no_number(hmr2, crops, num):
    """A batch padded to a fixed size and cut into parts gives each crop what it gets by itself."""
    seen = []
    hmr2.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    many = crops[torch.arange(num) % 4]
    people = BucketedHmr2(hmr2, largest_batch=4)(many)
    assert {1: [1], 3: [4], 4: [4], 7: [4, 4]}[num] == seen
    assert len(people.betas) == num
    with torch.inference_mode():
        for row in range(num):
            alone = hmr2(many[row : row + 1])
            for field in fields(alone):
                torch.testing.assert_close(
                    getattr(people, field.name)[row : row + 1],
                    getattr(alone, field.name),
                    atol=5e-6,
                    rtol=1e-5,
                    msg=field.name,
                )
    hmr2.backbone._forward_pre_hooks.clear()


def test_buckets_are_powers_of_two_up_to_the_largest(hmr2):
    """The fixed sizes are 1, 2, 4, ... and the largest one itself."""
    assert BucketedHmr2(hmr2).batch_sizes == (1, 2, 4, 8, 16, 32)
    assert BucketedHmr2(hmr2, largest_batch=12).batch_sizes == (1, 2, 4, 8, 12)
    assert BucketedHmr2(hmr2, largest_batch=1).batch_sizes == (1,)


def test_from_tokens_is_the_head_and_body_of_the_same_network(hmr2, crops):
    """Tokens of a backbone that runs elsewhere give what the whole network gives."""
    run = BucketedHmr2(hmr2)
    with torch.inference_mode():
        tokens = hmr2.backbone(crops)
    torch.testing.assert_close(run.from_tokens(tokens).vertices, run(crops).vertices, atol=2e-6, rtol=0)


def test_head_reads_any_number_of_tokens(hmr2):
    """The head serves backbones with other grids."""
    people = BucketedHmr2(hmr2).from_tokens(torch.zeros(2, 37, 64))
    assert people.joints_3d.shape == (2, 44, 3)


def test_person_of_scale_one_projects_into_the_crop():
    """A body of two metres at s = 1 spans the crop, and its origin lands at (tx, ty) / 2 from the middle."""
    points = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]])
    centred = project_to_crop(points, crop_translation(torch.tensor([[1.0, 0.0, 0.0]])))
    torch.testing.assert_close(
        centred, torch.tensor([[[0.0, 0.0], [0.0, 0.5], [0.0, -0.5]]]), atol=1e-6, rtol=0
    )
    moved = project_to_crop(points[:, :1], crop_translation(torch.tensor([[1.0, 0.2, -0.1]])))
    torch.testing.assert_close(moved, torch.tensor([[[0.1, -0.05]]]), atol=1e-6, rtol=0)


def test_exact_float32_switches_tf32_off_and_back():
    """Inside the block no product is rounded to TF32; afterwards all is as before, also after an error."""

    def state() -> tuple[bool, bool, bool]:
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    def fail_inside() -> None:
        with exact_float32():
            assert state() == (True, False, False)
            raise KeyError

    before = state()
    with pytest.raises(KeyError):
        fail_inside()
    assert state() == before
