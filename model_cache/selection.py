"""Which detections become people: PHALP's score and size filters. Knows nothing of pixels or devices."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray

from model_cache.interfaces import PerceptionOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The kept detections of one image, in detector order.

    Attributes:
        rows: their indices among all detections.
        detection_index: their indices among those that passed the score filter (PHALP's `extra_data`).
    """

    rows: Int64[ndarray, " n"]
    detection_index: Int64[ndarray, " n"]


def select(
    bbox_xyxy: Float32[ndarray, "n 4"], scores: Float32[ndarray, " n"], options: PerceptionOptions
) -> Selection:
    """People with `score > score_threshold` and a box that is not narrower or lower than allowed.

    If there are more than `max_people` of them, those with the highest scores stay, in detector order.
    Boxes without finite coordinates or without area are dropped whatever the options say.
    """
    passed = np.flatnonzero(scores > np.float32(options.score_threshold))
    with np.errstate(invalid="ignore"):
        size = bbox_xyxy[passed, 2:] - bbox_xyxy[passed, :2]
        large = (size[:, 0] >= options.small_w) & (size[:, 1] >= options.small_h) & (size > 0).all(axis=1)
    kept = np.flatnonzero(large & np.isfinite(bbox_xyxy[passed]).all(axis=1))
    if options.max_people is not None and len(kept) > options.max_people:
        best = np.argsort(-scores[passed[kept]], kind="stable")[: options.max_people]
        kept = kept[np.sort(best)]
    return Selection(rows=passed[kept], detection_index=kept)
