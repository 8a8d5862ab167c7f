"""What perception asks of a person detector. docs/16-another-detector.md shows how to add one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from model_cache.errors import ModelOutputInvalid, UnknownModel
from model_cache.networks.device import to_device
from model_cache.registry import LoadOptions, detector_entry, load_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """People found in one frame.

    Attributes:
        bbox_xyxy: x1, y1, x2, y2 in continuous pixels of the upright frame, neither padded nor clipped. Best
            on the host, brought there for all frames at once: perception waits for each that is not.
        scores: 0 to 1; where the boxes are.
        paint_masks: full-frame masks of the given rows (a tensor on the host), on the frame's device. Only
            they are ever painted, when they are needed: a mask is 2 MB in full HD and 8 MB in 4K.
    """

    bbox_xyxy: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    paint_masks: Callable[[Int64[Tensor, " k"]], Bool[Tensor, "k h w"]]


class Detector(ABC):
    """Finds people in frames on the device. `NumpyDetector` is simpler where the device gains nothing.

    Attributes:
        weights: files that it was loaded from, by the names that results give them (with their SHA-256).
    """

    weights: Mapping[str, Path] = {}

    @abstractmethod
    def detect(
        self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]], frame_indices: Sequence[int]
    ) -> list[Candidates]:
        """People, and nothing else, of each frame, before any filter of size.

        Args:
            frames_bgr: upright frames, not necessarily of one size.
            frame_indices: 0-based decode index of each, for detections that were recorded before.
        """

    def warm_up(self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]]) -> None:
        """Do once, on blank frames, what `detect` and painting masks do."""
        for found in self.detect(frames_bgr, range(len(frames_bgr))):
            found.paint_masks(torch.arange(len(found.scores)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """People found in one image, as numpy arrays.

    Attributes:
        bbox_xyxy: x1, y1, x2, y2 in continuous pixels of the upright image, neither padded nor clipped.
        scores: 0 to 1.
        masks: full-image instance masks; None where there are none: the whole box is then the person.
    """

    bbox_xyxy: Float[ndarray, "n 4"]
    scores: Float[ndarray, " n"]
    masks: Bool[ndarray, "n h w"] | None = None


class NumpyDetector(Detector):
    """A detector that looks at one image at a time, on the host."""

    @abstractmethod
    def find(self, image_bgr: UInt8[ndarray, "h w 3"], frame_index: int) -> Detections:
        """People, and nothing else, of one upright image.

        Args:
            image_bgr: must not be written to.
            frame_index: its 0-based decode index.
        """

    def detect(
        self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]], frame_indices: Sequence[int]
    ) -> list[Candidates]:
        """People of each frame, in the order of `find`.

        Raises:
            ModelOutputInvalid: `find` gave arrays that do not fit together or the image.
        """
        return [self._detect(frame, index) for frame, index in zip(frames_bgr, frame_indices, strict=True)]

    def _detect(self, frame: UInt8[Tensor, "h w 3"], frame_index: int) -> Candidates:
        height, width = frame.shape[:2]
        found = self.find(frame.cpu().numpy(), frame_index)
        num = len(found.scores)
        for name, expected in {
            "bbox_xyxy": (num, 4),
            "scores": (num,),
            "masks": (num, height, width),
        }.items():
            array = getattr(found, name)
            if array is not None and array.shape != expected:
                raise ModelOutputInvalid(
                    f"{type(self).__name__} gave {name} of shape {array.shape} for {num} scores in a frame "
                    f"of {width} x {height} pixels; it must be {expected}"
                )

        def paint_masks(rows: Int64[Tensor, " k"]) -> Bool[Tensor, "k h w"]:
            chosen = rows.numpy()
            boxes = found.bbox_xyxy[chosen]
            masks = box_masks(boxes, height, width) if found.masks is None else found.masks[chosen]
            (painted,) = to_device([masks], frame.device)
            return painted

        return Candidates(
            bbox_xyxy=torch.from_numpy(found.bbox_xyxy.astype(np.float32)),
            scores=torch.from_numpy(found.scores.astype(np.float32)),
            paint_masks=paint_masks,
        )


def box_masks(bbox_xyxy: Float[ndarray, "n 4"], height: int, width: int) -> Bool[ndarray, "n h w"]:
    """Masks of an image of this size that fill the boxes."""
    rows, columns = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    x1, y1, x2, y2 = (side[:, None, None] for side in bbox_xyxy.T)
    masks: Bool[ndarray, "n h w"] = (columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)
    return masks


class ReplayDetector(NumpyDetector):
    """Detections recorded before by frame index, in a detector's place: PHALP's mode for true boxes."""

    def __init__(self, recorded: Mapping[int, Detections]) -> None:
        self._recorded = recorded

    def find(self, image_bgr: UInt8[ndarray, "h w 3"], frame_index: int) -> Detections:
        """The recorded people of the frame, in recorded order; none where none were recorded."""
        nobody = Detections(bbox_xyxy=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32))
        return self._recorded.get(frame_index, nobody)


def load_detector(options: LoadOptions) -> Detector:
    """The detector that DETECTOR names.

    Raises:
        UnknownModel: it cannot be imported, or is no `Detector`.
        WeightsMissing: a file of it is not in the store.
        WeightsInvalid: a file is not what it should be.
    """
    detector = load_named("DETECTOR", detector_entry(options.name).loader, options)
    if not isinstance(detector, Detector):
        raise UnknownModel(
            f"DETECTOR={options.name} gives a {type(detector).__name__}; it must derive from Detector or "
            f"NumpyDetector of {Detector.__module__}"
        )
    return detector
