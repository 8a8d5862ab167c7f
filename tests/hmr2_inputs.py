"""Golden crops as HMR2 takes them, and its outputs beside the stored ones."""

import numpy as np
import torch

from model_cache.networks.hmr2 import FOCAL_LENGTH, BodyEstimate
from model_cache.networks.vit import CROP_SIZE

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


def project_to_crop(points: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Where points (b, n, 3) fall in the crop; its borders are at -0.5 and 0.5, x right, y down."""
    placed = points + translation[:, None]
    return FOCAL_LENGTH / CROP_SIZE * (placed[..., :2] / placed[..., 2:])


def keypoints_2d(people: BodyEstimate) -> torch.Tensor:
    """The 44 joints in the crop."""
    return project_to_crop(people.joints_3d, people.crop_cam_t)


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
