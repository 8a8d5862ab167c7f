"""What perception asks of a detector: candidates on the device, whose masks are painted on demand.

Knows nothing of any particular detector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from model_cache.interfaces import Detections, Detector


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """People found in one image, where the detector left them.

    Attributes:
        bbox_xyxy: continuous pixels of the upright image, by descending score.
        scores: 0 to 1.
        paint_masks: full-image masks of the chosen rows. Only they are ever painted: a full-HD mask is
            2 MB, and most candidates are dropped before their mask is needed.
    """

    bbox_xyxy: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    paint_masks: Callable[[Int64[Tensor, " k"]], Bool[Tensor, "k h w"]]


@runtime_checkable
class DeviceDetector(Protocol):
    """A detector for frames that already lie on the device."""

    def detect(
        self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]], frame_indices: Sequence[int]
    ) -> list[Candidates]:
        """People of each frame, by descending score."""
        ...

    def warm_up(self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]]) -> None:
        """Do once what `detect` and painting masks do, whether or not there is anybody in the frames."""
        ...


class OnDevice:
    """Any numpy `Detector` as a `DeviceDetector`; its masks are moved when they are asked for."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def detect(
        self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]], frame_indices: Sequence[int]
    ) -> list[Candidates]:
        """People of each frame, in the wrapped detector's order."""
        images = [frame.cpu().numpy() for frame in frames_bgr]
        found = self._detector.detect(images, frame_indices)
        return [_candidates(d, frame.device) for d, frame in zip(found, frames_bgr, strict=True)]

    def warm_up(self, frames_bgr: Sequence[UInt8[Tensor, "_ _ 3"]]) -> None:
        """Run the wrapped detector once."""
        self.detect(frames_bgr, range(len(frames_bgr)))


def _candidates(detections: Detections, device: torch.device) -> Candidates:
    masks = torch.from_numpy(detections.masks)
    return Candidates(
        bbox_xyxy=torch.from_numpy(detections.bbox_xyxy).to(device),
        scores=torch.from_numpy(detections.scores).to(device),
        paint_masks=lambda rows: masks[rows.cpu()].to(device),
    )
