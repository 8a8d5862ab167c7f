"""The official detector and networks as `Perception`, one frame at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray

from model_cache.errors import DeviceOutOfMemory, ModelOutputInvalid
from model_cache.interfaces import BodyModel, People, PerceptionOptions
from model_cache.networks.crops import select
from model_cache.networks.device import device_faults
from model_cache.upstream.detectors import FrameDetector
from model_cache.upstream.people import OfficialPerson
from model_cache.upstream.shims import on_device


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
        """One record per image, in order, each image by itself.

        Raises:
            DeviceOutOfMemory: one image alone does not fit.
            DeviceFault: the device needs a new process.
            ModelOutputInvalid: a network gave numbers that are not finite.
        """
        people = []
        for image, index in zip(images_bgr, frame_indices, strict=True):
            try:
                with device_faults(), on_device(self._device), torch.no_grad():
                    people.append(self._perceive_one(image, index, options))
            except torch.OutOfMemoryError as error:
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


def _stack(arrays: Sequence[ndarray], shape: tuple[int, ...]) -> ndarray:
    """One array, also of nobody; copied, so that no record keeps a batch's tensors alive."""
    return np.stack(arrays).astype(np.float32) if arrays else np.zeros((0, *shape), np.float32)
