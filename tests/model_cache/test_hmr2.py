"""HMR2 against the official packages, small and full, in float32 and with a backbone in bf16; its batches."""

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from model_cache.errors import ModelOutputInvalid
from model_cache.networks.decoder import BodyParameters
from model_cache.networks.hmr2 import FOCAL_LENGTH, BodyEstimate, BodyEstimator, BodyRegressor
from model_cache.networks.vit import CROP_SIZE
from model_cache.store.load import load_body, load_hmr2
from ops.weights.convert import convert
from tests.weight_rule import write_body, write_hmr2

MEAN_RGB = np.array([123.675, 116.280, 103.530])
STD_RGB = np.array([58.395, 57.120, 57.375])
PLAIN = {  # our fields that are stored as they are, and their official names
    "global_orient": "global_orient",
    "body_pose": "body_pose",
    "betas": "betas",
    "crop_cam": "pred_cam",
    "joints_3d": "keypoints_3d",
}


def normalised(crops_bgr: np.ndarray) -> torch.Tensor:
    """(n, 256, 256, 3) uint8 BGR to (n, 3, 256, 256) float32 RGB, in float64 on the way as PHALP does."""
    rgb = (crops_bgr[..., ::-1] - MEAN_RGB) / STD_RGB
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(0, 3, 1, 2), dtype=np.float32))


def keypoints_2d(people: BodyEstimate) -> torch.Tensor:
    """Where the 44 joints fall in the crop; its borders are at -0.5 and 0.5, x right, y down."""
    placed = people.joints_3d + people.crop_cam_t[:, None]
    return FOCAL_LENGTH / CROP_SIZE * (placed[..., :2] / placed[..., 2:])


def close(ours: torch.Tensor, official: np.ndarray, tolerance: float, name: str = "") -> None:
    """The largest difference is at most the tolerance."""
    np.testing.assert_allclose(ours.cpu().numpy(), official, atol=tolerance, rtol=0, err_msg=name)


def assert_official(
    people: BodyEstimate, official: dict[str, np.ndarray], *, tolerance: float, betas: float, depth: float
) -> None:
    """Every output is the stored one within the tolerance; betas and the camera's depth have their own."""
    for ours, theirs in PLAIN.items():
        close(getattr(people, ours), official[theirs], betas if ours == "betas" else tolerance, ours)
    close(keypoints_2d(people), official["keypoints_2d"], tolerance, "keypoints_2d")
    close(people.vertices[:, ::10], official["vertices_sub"], tolerance, "vertices")
    close(people.crop_cam_t[:, :2], official["pred_cam_t"][:, :2], tolerance, "crop_cam_t")
    close(people.crop_cam_t[:, 2], official["pred_cam_t"][:, 2], depth, "depth")


def assert_near(people: BodyEstimate, official: dict[str, np.ndarray], *, factor: float) -> None:
    """Within `factor` times twice what was seen of the small network in bf16; and it is really bf16."""
    error = np.abs(people.joints_3d.numpy() - official["keypoints_3d"]).max()
    assert 1e-5 < error < factor * 1.5e-3  # metres
    close(people.betas, official["betas"], factor * 5e-3)
    close(keypoints_2d(people), official["keypoints_2d"], factor * 5e-4)  # of the crop's side
    np.testing.assert_allclose(people.crop_cam_t[:, 2], official["pred_cam_t"][:, 2], rtol=factor * 5e-4)


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
    """What follows the backbone is float32: rotations are orthonormal to float32's precision."""
    people = BodyEstimator(load_hmr2(official_tiny_store, precision="bf16"), body)(crops)
    assert_near(people, golden("hmr2_tiny"), factor=1)
    assert {getattr(people, field.name).dtype for field in fields(people)} == {torch.float32}
    product = people.body_pose @ people.body_pose.transpose(-1, -2)
    torch.testing.assert_close(product, torch.eye(3).expand_as(product), atol=2e-6, rtol=0)


@pytest.fixture(scope="module")
def full_store():
    """The store with ViT-H and the body; fp32."""
    with TemporaryDirectory() as name:  # pytest's own folders would keep 5 GB for three runs
        folder = Path(name)
        write_hmr2(folder, "full")
        write_body(folder / "data")
        convert([folder / "logs", folder / "data"], folder / "store", only=("hmr2", "smpl"))
        yield folder / "store"


@pytest.mark.slow
@pytest.mark.timeout(900)
@torch.inference_mode()
def test_vit_h_gives_the_official_numbers(golden, full_store, crops):
    """Features, decoder token and every output of ViT-H are the official ones."""
    hmr2 = load_hmr2(full_store)
    expected, crops = golden("hmr2_vith"), crops[:2]
    tokens = hmr2.backbone(crops)
    close(tokens.transpose(1, 2).unflatten(2, (16, 12))[:, ::4], expected["features"], 2e-5)
    close(hmr2.head.decode(tokens), expected["token"], 4e-5)
    people = BodyEstimator(hmr2, load_body(full_store / "smpl.safetensors"))(crops)
    assert_official(people, expected, tolerance=3e-6, betas=1e-5, depth=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@torch.inference_mode()
def test_vit_h_in_bf16_stays_within_its_stated_tolerance(golden, full_store, crops):
    """Three times the small network's tolerance: 4.5 mm, a 700th of the crop, 0.15 % of depth."""
    hmr2 = load_hmr2(full_store, precision="bf16")
    people = BodyEstimator(hmr2, load_body(full_store / "smpl.safetensors"))(crops[:2])
    assert_near(people, golden("hmr2_vith"), factor=3)
