"""The official detectors from local files, or another one in their place."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float32, UInt8
from numpy import ndarray
from torch import Tensor

from model_cache.errors import WeightsMissing
from model_cache.networks.detector import Detector
from model_cache.store.manifest import OFFICIAL_FOLDER, UPSTREAM_DETECTORS, package_caches
from model_cache.upstream.shims import Official, on_device

SCORE_FLOOR = 0.5  # PHALP: setup_detectron2
MASK_RCNN_NMS = 0.4
PERSON = 0  # COCO's first class, as detectron2 counts

OfficialDetectorName = Literal["vitdet", "maskrcnn"]
_MASK_RCNN_CONFIG = "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ.py"
_VITDET_CONFIG = "configs/cascade_mask_rcnn_vitdet_h_75ep.py"  # in the package phalp

FrameDetector = Callable[[UInt8[ndarray, "h w 3"], int], Any]
"""A frame and its index to what the official code reads as detectron2's answer."""


def official_detector(
    official: Official, name: OfficialDetectorName, weights: Path | None, store: Path, device: torch.device
) -> FrameDetector:
    """PHALP's own detector with PHALP's own thresholds. detectron2 unpickles its checkpoint.

    Its second detector (boxes given, masks predicted) is never built: ground-truth boxes are no input here.

    Args:
        official: the packages, imported with detectron2.
        name: `phalp.detector`.
        weights: the checkpoint; by default the store's, else the one detectron2 has downloaded.
        store: the weights store.
        device: where to run it.

    Raises:
        WeightsMissing: the checkpoint is in none of these places.
    """
    path = find_checkpoint(name, weights, store)
    from detectron2 import model_zoo  # there, or `official` would not be
    from detectron2.config import LazyConfig

    if name == "vitdet":
        config = LazyConfig.load(str(Path(official.phalp.__file__).parent.parent / _VITDET_CONFIG))
        for predictor in config.model.roi_heads.box_predictors:
            predictor.test_score_thresh = SCORE_FLOOR
    else:
        config = model_zoo.get_config(_MASK_RCNN_CONFIG, trained=False)
        config.model.roi_heads.box_predictor.test_score_thresh = SCORE_FLOOR
        config.model.roi_heads.box_predictor.test_nms_thresh = MASK_RCNN_NMS
    config.train.init_checkpoint = str(path)
    with on_device(device):
        predict = official.phalp.DefaultPredictor_Lazy(config)
    return lambda image, frame_index: predict(image)


def find_checkpoint(name: OfficialDetectorName, weights: Path | None, store: Path) -> Path:
    """The checkpoint of an official detector: as named, else the store's, else detectron2's download.

    Raises:
        WeightsMissing: it is in none of these places.
    """
    file = UPSTREAM_DETECTORS[name]
    places = [weights.expanduser()] if weights else [folder / file.path for folder in package_caches()]
    if weights is None:
        places.insert(0, store / OFFICIAL_FOLDER / file.path)
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        raise WeightsMissing(
            f"the checkpoint of the detector {name} is not at {' or '.join(map(str, places))}: get it by "
            "`python -m handler weights fetch --engine upstream`, name it by UPSTREAM_DETECTOR_WEIGHTS, or "
            "do without it by UPSTREAM_DETECTOR=native"
        )
    return path


class ReplacedDetector:
    """Any `Detector` where the official code expects detectron2's.

    Args:
        detector: finds people.
        device: where it wants its frames.
    """

    def __init__(self, detector: Detector, device: torch.device | str = "cpu") -> None:
        self._detector = detector
        self._device = device

    def __call__(self, image_bgr: UInt8[ndarray, "h w 3"], frame_index: int) -> dict[str, "FoundInstances"]:
        """What was found in one frame, on the host, under detectron2's names."""
        frame = torch.from_numpy(image_bgr).to(self._device)
        (found,) = self._detector.detect([frame], [frame_index])
        everybody = torch.arange(len(found.scores), device=found.scores.device)
        return {
            "instances": FoundInstances(
                pred_boxes=FoundBoxes(tensor=found.bbox_xyxy.float().cpu()),
                scores=found.scores.float().cpu(),
                pred_classes=torch.full((len(found.scores),), PERSON),
                pred_masks=found.paint_masks(everybody).cpu(),
            )
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundBoxes:
    """Boxes under detectron2's name."""

    tensor: Float32[Tensor, "n 4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundInstances:
    """The part of detectron2's `Instances` that PHALP reads."""

    pred_boxes: FoundBoxes
    scores: Float32[Tensor, " n"]
    pred_classes: Tensor
    pred_masks: Bool[Tensor, "n h w"]

    def __getitem__(self, chosen: Bool[Tensor, " n"]) -> "FoundInstances":
        return FoundInstances(
            pred_boxes=FoundBoxes(tensor=self.pred_boxes.tensor[chosen]),
            scores=self.scores[chosen],
            pred_classes=self.pred_classes[chosen],
            pred_masks=self.pred_masks[chosen],
        )
