"""The bundled HMR2 on people of the shipped clip, in true boxes, against their true bodies."""

import numpy as np
import pytest
import torch

from benchmarks.accuracy_scores import mean_distance, procrustes
from model_cache.lite.backbone import measure
from model_cache.lite.blazepose import BlazePose
from model_cache.lite.load import load_lite_body, load_lite_hmr2
from model_cache.networks.crops import crop_people, pad_boxes
from model_cache.networks.hmr2 import BodyEstimator
from tests.model_cache.lite.shipped_clip import read_frames
from tests.model_cache.test_hmr2 import keypoints_2d

FRAMES = (15, 75, 135, 195, 245)
LSP_14 = slice(25, 39)
BODY_25 = [2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14]  # shoulders to wrists, hips to ankles
IN_BLAZEPOSE = [12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27]  # the same joints


@pytest.fixture(scope="module")
def people():
    """Crops (n, 3, 256, 256) of people hardly hidden, their true joints (n, 44, 3) and crop key points."""
    images, truth = read_frames(FRAMES)
    body = load_lite_body()
    crops, joints, keypoints = [], [], []
    for frame, image in zip(FRAMES, images, strict=True):
        for p in range(len(truth.betas)):
            if truth.visible_pixels[frame, p] < max(0.9 * truth.own_pixels[frame, p], 3000):
                continue
            mask = (truth.owners[frame] == p)[None]
            padded = pad_boxes(truth.bbox_xyxy[frame, p][None])
            crops.append(crop_people(image, padded, mask)[0, :3])
            rotations = torch.from_numpy(truth.rotations[frame, p][None])
            posed = body(rotations[:, :1], rotations[:, 1:], torch.from_numpy(truth.betas[p][None]))
            joints.append(posed.joints[0].numpy())
            placed = joints[-1] + truth.translation[frame, p]
            pixels = placed[:, :2] / placed[:, 2:] * truth.focal_length_px + np.array(image.shape[1::-1]) / 2
            side = (padded[0, 2:] - padded[0, :2]).max()
            keypoints.append((pixels - (padded[0, :2] + padded[0, 2:]) / 2) / side)
    return torch.from_numpy(np.stack(crops)), np.stack(joints), np.stack(keypoints)


@pytest.fixture(scope="module")
def estimate(people):
    """What the bundled HMR2 says about them."""
    return BodyEstimator(load_lite_hmr2(1), load_lite_body())(people[0])


def test_bodies_are_meaningful(people, estimate):
    """After alignment, joints are within the stated accuracy of the truth on average."""
    errors = [
        mean_distance(procrustes(found[LSP_14], true[LSP_14]), true[LSP_14])
        for found, true in zip(estimate.joints_3d.numpy(), people[1], strict=True)
    ]

    assert len(errors) >= 8
    assert np.mean(errors) < 0.075


def test_bodies_lie_on_the_people(people, estimate):
    """HMR2's crop camera puts the joints within a few hundredths of the crop of the true ones."""
    errors = np.linalg.norm(keypoints_2d(estimate).numpy()[:, :15] - people[2][:, :15], axis=-1)

    assert np.median(errors) < 0.04


def test_measured_landmarks_are_in_crop_coordinates(people):
    """BlazePose's landmarks, taken from the shrunk crop, fall on the true joints of the crop itself."""
    network = BlazePose(1)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    errors = []
    for crop, keypoints in zip(people[0], people[2], strict=True):
        image = ((crop.permute(1, 2, 0) * std + mean) / 255).numpy()
        _, landmarks = measure(network, np.ascontiguousarray(image))
        errors.append(np.linalg.norm(landmarks[IN_BLAZEPOSE, :2] - keypoints[BODY_25], axis=1))

    assert np.median(errors) < 0.04


def test_backbone_gives_the_heads_tokens(people):
    """16 patches, 33 landmarks and 4 summaries of the width that the head reads."""
    hmr2 = load_lite_hmr2(1)
    width = hmr2.head.layers[0].cross.to_key_value.in_features

    assert hmr2.backbone(people[0][:2]).shape == (2, 53, width)
