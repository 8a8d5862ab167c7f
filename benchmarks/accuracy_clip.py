"""Scores of what was found in a clip, tracked or not, against its truth.

Rules: `accuracy_matching`. Pose scores are means over all hits of the clip, each person in each frame once.
The acceleration error is over hits of one person in three frames in a row (of those that were looked at),
whatever their tracks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from benchmarks.accuracy_matching import Judged, judge
from benchmarks.accuracy_pose import BodyError, PlacedBody, TrueBodies
from benchmarks.accuracy_scores import acceleration, box_iou, mask_iou
from benchmarks.accuracy_tracking import Instant, TrackingScores, score_tracking
from benchmarks.clip_truth import ClipTruth
from model_cache.interfaces import BodyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFrame:
    """The people found in one frame.

    Attributes:
        index: the frame in the truth.
        bbox_xyxy: their boxes.
        bodies: their bodies.
        masks: their visible pixels, or None.
    """

    index: int
    bbox_xyxy: Float64[ndarray, "n 4"]
    bodies: Sequence[PlacedBody]
    masks: Bool[ndarray, "n h w"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """Which of the people found in a frame have a track, and which.

    Attributes:
        rows: of the frame's people.
        ids: their tracks.
    """

    rows: Int64[ndarray, " m"]
    ids: Int64[ndarray, " m"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a result is worth; NaN where there is nothing to take a mean of.

    Attributes:
        recall: share of the people who count that were found.
        precision: share of the judged people who are there.
        mask_iou: mean over the hits.
        mpjpe_mm, viewed_mm, pa_mpjpe_mm, pve_mm, pixels: see `BodyError`.
        acceleration_mm_s2: error of the joints' acceleration relative to the pelvis.
        tracking: identities; None for people without.
    """

    recall: float
    precision: float
    mask_iou: float
    mpjpe_mm: float
    viewed_mm: float
    pa_mpjpe_mm: float
    pve_mm: float
    pixels: float
    acceleration_mm_s2: float
    tracking: TrackingScores | None

    @property
    def idf1(self) -> float:
        """Identity F1; NaN for people without identities."""
        return float("nan") if self.tracking is None else self.tracking.idf1

    @property
    def switches(self) -> int | None:
        """Identity switches; None for people without identities."""
        return None if self.tracking is None else self.tracking.switches


@dataclass
class _Sums:
    expected: int = 0
    judged: int = 0
    hits: list[tuple[int, int, int]] = field(default_factory=list)  # place, person, row
    mask_ious: list[float] = field(default_factory=list)
    instants: list[Instant] = field(default_factory=list)


class ClipScorer:
    """Scores trackings of the same found people; each pair of bodies is compared once.

    Found and true people are alike as their masks are, in frames that have them, or else as their boxes are:
    boxes of people who hide each other overlap whoever they are of.

    Args:
        found: frames in order.
        truth: of the clip.
        body: the body that the clip was drawn with.
        skin: also compare vertices.
    """

    def __init__(
        self, found: Sequence[FoundFrame], truth: ClipTruth, body: BodyModel, *, skin: bool = True
    ) -> None:
        self._found = found
        self._truth = truth
        self._bodies = TrueBodies(truth, body, skin=skin)
        self._errors: dict[tuple[int, int, int], BodyError] = {}
        self._counts = [truth.who_counts(frame.index) for frame in found]
        self._by_mask = [
            None if frame.masks is None else mask_iou(truth.masks(frame.index), frame.masks)
            for frame in found
        ]
        self._similarity = [
            np.nan_to_num(box_iou(truth.bbox_xyxy[frame.index].astype(np.float64), frame.bbox_xyxy))
            if by_mask is None
            else by_mask
            for frame, by_mask in zip(found, self._by_mask, strict=True)
        ]

    def detected(self) -> Scores:
        """Everybody found, without identities."""
        sums = _Sums()
        for place, similarity in enumerate(self._similarity):
            self._add(sums, place, judge(similarity, self._counts[place]))
        return self._scores(sums, None)

    def tracked(self, tracks: Sequence[Tracked]) -> Scores:
        """Those with a track, frame by frame."""
        sums = _Sums()
        for place, people in enumerate(tracks):
            judged = judge(self._similarity[place][:, people.rows], self._counts[place])
            sums.instants.append(
                Instant(true=judged.true, found=people.ids[judged.found], similarity=judged.similarity)
            )
            self._add(sums, place, judged, people.rows)
        return self._scores(sums, score_tracking(sums.instants))

    def _add(self, sums: _Sums, place: int, judged: Judged, rows: Int64[ndarray, " m"] | None = None) -> None:
        sums.expected += len(judged.true)
        sums.judged += len(judged.found)
        for person, found in judged.pairs:
            row = found if rows is None else int(rows[found])
            sums.hits.append((place, person, row))
            by_mask = self._by_mask[place]
            if by_mask is not None:
                sums.mask_ious.append(float(by_mask[person, row]))

    def _scores(self, sums: _Sums, tracking: TrackingScores | None) -> Scores:
        errors = {(place, person): self._error(place, person, row) for place, person, row in sums.hits}
        return Scores(
            recall=len(sums.hits) / max(sums.expected, 1),
            precision=len(sums.hits) / max(sums.judged, 1),
            mask_iou=_mean(sums.mask_ious),
            mpjpe_mm=_mean([error.mpjpe for error in errors.values()]),
            viewed_mm=_mean([error.viewed for error in errors.values()]),
            pa_mpjpe_mm=_mean([error.pa_mpjpe for error in errors.values()]),
            pve_mm=_mean([error.pve for error in errors.values()]),
            pixels=_mean([error.pixels for error in errors.values()]),
            acceleration_mm_s2=self._acceleration_error(errors),
            tracking=tracking,
        )

    def _error(self, place: int, person: int, row: int) -> BodyError:
        key = (place, person, row)
        if key not in self._errors:
            frame = self._found[place]
            self._errors[key] = self._bodies.error(frame.bodies[row], frame.index, person)
        return self._errors[key]

    def _acceleration_error(self, errors: dict[tuple[int, int], BodyError]) -> float:
        off = []
        for place, person in errors:
            three = [errors.get((place + step, person)) for step in (-1, 0, 1)]
            around = [error for error in three if error is not None]
            if len(around) < 3:
                continue
            frames = [self._found[place + step].index for step in (-1, 0, 1)]
            difference = np.stack([error.found - error.true for error in around])
            # The difference of the accelerations is the acceleration of the difference.
            moved = acceleration(difference, self._truth.times[frames])
            off.append(1000 * float(np.linalg.norm(moved, axis=-1).mean()))
        return _mean(off)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
