"""The official networks as `Perception`, one frame at a time, with an official detector or another one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy import ndarray
from torch import Tensor

from model_cache.errors import DeviceOutOfMemory, ModelOutputInvalid, WeightsMissing
from model_cache.interfaces import BodyModel, People, PerceptionOptions
from model_cache.networks.crops import select
from model_cache.networks.detector import Detector
from model_cache.networks.device import device_faults
from model_cache.store.manifest import OFFICIAL_FOLDER, UPSTREAM_DETECTORS, official_file, package_caches
from model_cache.upstream.shims import Official, on_device

SCORE_FLOOR = 0.5  # PHALP: setup_detectron2
MASK_RCNN_NMS = 0.4
PERSON = 0  # COCO's first class, as detectron2 counts

OfficialDetectorName = Literal["vitdet", "maskrcnn"]
_MASK_RCNN_CONFIG = "new_baselines/mask_rcnn_regnety_4gf_dds_FPN_400ep_LSJ.py"
_VITDET_CONFIG = "configs/cascade_mask_rcnn_vitdet_h_75ep.py"  # in the package phalp

FrameDetector = Callable[[UInt8[ndarray, "h w 3"], int], Any]
"""A frame and its index to what the official code reads as detectron2's answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialPerson:
    """The handle that perception gives out as a person's texture; holds about 1.3 MB.

    Attributes:
        detection: PHALP's `Detection`.
    """

    detection: Any


class UpstreamPerception:
    """`HMR2_4dhuman`'s own `get_detections` and `get_human_features`; nothing of a frame stays.

    Args:
        model: `HMR2_4dhuman` with its networks.
        detector: finds people.
        body: for SMPL's own 24 joints, which the official code does not give out.
        device: where the networks are.
    """

    def __init__(self, *, model: Any, detector: FrameDetector, body: BodyModel, device: torch.device) -> None:
        self._model = model
        self._detector = detector
        self._body = body
        self._device = device

    def perceive(
        self,
        images_bgr: Sequence[UInt8[ndarray, "_ _ 3"]],
        frame_indices: Sequence[int],
        options: PerceptionOptions,
    ) -> list[People]:
        """One record per image, in order, each image by itself."""
        people = []
        for image, index in zip(images_bgr, frame_indices, strict=True):
            try:
                with device_faults(), on_device(self._device), torch.no_grad():
                    people.append(self._perceive_one(image, index, options))
            except DeviceOutOfMemory as error:
                raise DeviceOutOfMemory("one frame alone does not fit on the device") from error
        return people

    def _perceive_one(self, image: UInt8[ndarray, "h w 3"], index: int, options: PerceptionOptions) -> People:
        model, limits = self._model, self._model.cfg.phalp
        limits.low_th_c = options.score_threshold
        limits.small_w, limits.small_h = options.small_w, options.small_h
        model.detector = lambda frame: self._detector(frame, index)
        height, width = image.shape[:2]
        longer = max(height, width)
        measurements = [height, width, longer, (longer - width) // 2, (longer - height) // 2]
        boxes, padded, masks, scores, classes, identities, annotations = model.get_detections(
            image, str(index), index, {}, measurements
        )
        selection = select(boxes, scores, options)  # the official filters, and `max_people`
        rows = selection.rows
        found = model.get_human_features(
            image,
            masks[rows],
            boxes[rows],
            padded[rows],
            scores[rows],
            str(index),
            classes[rows],
            index,
            measurements,
            [identities[row] for row in rows],
            [annotations[row] for row in rows],
            selection.detection_index.tolist(),
        )
        details = [detection.detection_data for detection in found]
        poses = [np.concatenate([d["smpl"]["global_orient"], d["smpl"]["body_pose"]]) for d in details]
        rotations = _stack(poses, (24, 3, 3))
        betas = _stack([d["smpl"]["betas"] for d in details], (10,))
        crop_cam = _stack([d["camera_bbox"] for d in details], (3,))
        joints = _stack([d["3d_joints"][:44] for d in details], (44, 3))
        if not all(np.isfinite(a).all() for a in (rotations, betas, crop_cam, joints)):
            raise ModelOutputInvalid("HMR2 gave numbers that are not finite")
        smpl_joints = np.zeros((0, 24, 3), np.float32)
        if details:
            smpl_joints = self._body.joints(rotations[:, :1], rotations[:, 1:], betas)[1]
        return People(
            detection_index=selection.detection_index,
            bbox_xyxy=boxes[rows],
            bbox_padded_xyxy=padded[rows].astype(np.float32),
            scores=scores[rows],
            rotations=rotations,
            betas=betas,
            crop_cam=crop_cam,
            joints_3d=joints,
            smpl_joints_3d=smpl_joints,
            textures=tuple(OfficialPerson(detection=detection) for detection in found),
            mask_rle=tuple(d["mask"][0]["counts"] for d in details) if options.masks else None,
        )


def _finite(found: dict[str, Any]) -> dict[str, Any]:
    """The detector's answer, refused if it is not finite: the official filters would drop it silently."""
    people = found["instances"]
    if not (people.scores.isfinite().all() and people.pred_boxes.tensor.isfinite().all()):
        raise ModelOutputInvalid("the detector gave numbers that are not finite")
    return found


def _stack(arrays: Sequence[ndarray], shape: tuple[int, ...]) -> ndarray:
    """The arrays stacked, (0, ...) if there are none; copied, so that the batch's tensors can be freed."""
    return np.stack(arrays).astype(np.float32) if arrays else np.zeros((0, *shape), np.float32)


def official_detector(
    official: Official, name: OfficialDetectorName, weights: Path | None, store: Path, device: torch.device
) -> FrameDetector:
    """PHALP's own detector with PHALP's own thresholds. detectron2 unpickles its checkpoint.

    Its second detector (boxes given, masks predicted) is never built: jobs bring no ground-truth boxes.

    `official` was imported with detectron2; for the rest see `find_checkpoint`.
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
    return lambda image, frame_index: _finite(predict(image))


def find_checkpoint(name: OfficialDetectorName, weights: Path | None, store: Path) -> Path:
    """The checkpoint of an official detector: as named, else the store's, else detectron2's download.

    Raises:
        WeightsMissing: it is in none of these places.
    """
    file, caches = UPSTREAM_DETECTORS[name], package_caches()
    path = weights.expanduser() if weights else official_file(store, file, caches)
    if path is None or not path.is_file():
        places = [path] if path else [folder / file.path for folder in (store / OFFICIAL_FOLDER, *caches)]
        raise WeightsMissing(
            f"the checkpoint of the detector {name} is not at {' or '.join(map(str, places))}: get it by "
            "`python -m handler weights fetch --engine upstream`, name it by UPSTREAM_DETECTOR_WEIGHTS, or "
            "do without it by UPSTREAM_DETECTOR=native"
        )
    return path


class ReplacedDetector:
    """Any `Detector` where the official code expects detectron2's; its frames go to `device`."""

    def __init__(self, detector: Detector, device: torch.device | str = "cpu") -> None:
        self._detector = detector
        self._device = device

    def __call__(self, image_bgr: UInt8[ndarray, "h w 3"], frame_index: int) -> dict[str, "Columns"]:
        """What was found in one frame, on the host: the part of detectron2's `Instances` that PHALP reads."""
        frame = torch.from_numpy(image_bgr).to(self._device)
        (found,) = self._detector.detect([frame], [frame_index])
        everybody = torch.arange(len(found.scores))
        people = Columns(
            pred_boxes=Columns(tensor=found.bbox_xyxy.float().cpu()),
            scores=found.scores.float().cpu(),
            pred_classes=torch.full((len(found.scores),), PERSON),
            pred_masks=found.paint_masks(everybody).cpu(),
        )
        return _finite({"instances": people})


class Columns(SimpleNamespace):
    """Named columns, of which a mask chooses the rows as in detectron2's `Instances` and `Boxes`."""

    def __getitem__(self, chosen: Bool[Tensor, " n"]) -> "Columns":
        return Columns(**{name: column[chosen] for name, column in vars(self).items()})
