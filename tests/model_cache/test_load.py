"""The official models with a detector and a body regressor of one's own."""

import shutil

import numpy as np
import torch

from model_cache.interfaces import Models, PerceptionOptions
from model_cache.load import load
from model_cache.networks.decoder import BodyParameters
from model_cache.networks.detector import Detections, NumpyDetector
from model_cache.networks.hmr2 import BodyRegressor
from model_cache.settings import ModelSettings

HERE = __name__


class InTheMiddle(NumpyDetector):
    """One person in the middle of every image."""

    def __init__(self, options):
        self.weights = {"a file": options.store / "store.json"}

    def find(self, image_bgr, frame_index):
        height, width = image_bgr.shape[:2]
        box = np.array([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]])
        return Detections(bbox_xyxy=box, scores=np.array([0.9]))


class Straight(BodyRegressor):
    """Everybody stands straight, 39 metres away."""

    def __init__(self, options):
        super().__init__()
        self.eye = torch.nn.Parameter(torch.eye(3))

    def forward(self, crops):
        rotations = self.eye.expand(len(crops), 24, 3, 3)
        return BodyParameters(
            global_orient=rotations[:, :1],
            body_pose=rotations[:, 1:],
            betas=crops.new_zeros(len(crops), 10),
            crop_cam=crops.new_tensor([1.0, 0.0, 0.0]).expand(len(crops), 3),
        )


def test_own_detector_and_regressor_need_neither_rf_detr_nor_hmr2(official_tiny_store, tmp_path):
    """They run between the official networks out of a store without HMR2, and the result says what ran."""
    store = tmp_path / "store"
    shutil.copytree(official_tiny_store, store, ignore=shutil.ignore_patterns("hmr2.*"))
    names = {"detector": f"{HERE}:InTheMiddle", "body_regressor": f"{HERE}:Straight"}

    models = load(ModelSettings(models="official", model_store=store, model_device="cpu", **names))
    (image,) = models.perception.perceive([np.zeros((480, 640, 3), np.uint8)], [0], PerceptionOptions())

    assert isinstance(models, Models)
    assert np.array_equal(image.bbox_xyxy, [[160, 120, 480, 360]])
    assert np.array_equal(image.body_pose, np.tile(np.eye(3), (1, 23, 1, 1)))
    said = models.description
    assert (said.detector, said.backbone) == (names["detector"], names["body_regressor"])
    files = {(file.role, file.name) for file in said.files}
    assert ("detector", "a file") in files
    assert ("smpl", "smpl.safetensors") in files
    assert "hmr2" not in {role for role, _ in files}
