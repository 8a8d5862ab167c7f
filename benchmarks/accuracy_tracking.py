"""How well identities are kept: CLEAR MOT, identity and HOTA scores.

Sources: Bernardin and Stiefelhagen 2008 (CLEAR MOT), Ristani et al. 2016 (IDF1), Luiten et al. 2021 (HOTA).
The packages that have all three bring a second OpenCV that overwrites ours, so they are written out here; the
numbers of one of them, TrackEval, are recorded in tests/golden/tracking_scores.json and must come out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from benchmarks.accuracy_matching import FOUND

HOTA_FLOORS = np.arange(1, 20) * 0.05
KEEP = 1000.0  # what going on with the last frame's pair is worth, against a similarity of at most 1
TINY = float(np.finfo(float).eps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instant:
    """One frame: who is there, who was found, how alike they are.

    Attributes:
        true: identities, each at most once.
        found: track ids, each at most once.
        similarity: 0 to 1, of every pair.
    """

    true: Int64[ndarray, " a"]
    found: Int64[ndarray, " b"]
    similarity: Float64[ndarray, "a b"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingScores:
    """What a tracking is worth.

    Attributes:
        idf1: share of people and tracks that agree when each person gets one track for the whole clip.
        hota: geometric mean of `det_a` and `ass_a`, mean over 19 floors of similarity.
        det_a: of HOTA: how well people are found.
        ass_a: of HOTA: how well tracks hold together.
        switches: how often a person's track is another one than the last the person had.
        mota: 1 - (misses + mistakes + switches) / people; may be negative.
    """

    idf1: float
    hota: float
    det_a: float
    ass_a: float
    switches: int
    mota: float


def score_tracking(clip: Sequence[Instant]) -> TrackingScores:
    """All scores of one clip, frames in order. An empty clip is worth nothing."""
    table = _Identities.of(clip)
    switches, hits = _clear(clip)
    num_true, num_found = int(table.num_true.sum()), int(table.num_found.sum())
    errors = (num_true - hits) + (num_found - hits) + switches
    hota, det_a, ass_a = _hota(clip, table)
    return TrackingScores(
        idf1=_idf1(clip, table),
        hota=hota,
        det_a=det_a,
        ass_a=ass_a,
        switches=switches,
        mota=1 - errors / max(num_true, 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identities:
    """All identities and tracks of a clip, with the number of frames of each."""

    true: list[int]
    found: list[int]
    num_true: Float64[ndarray, " t"]
    num_found: Float64[ndarray, " f"]

    @classmethod
    def of(cls, clip: Sequence[Instant]) -> "_Identities":
        true = np.concatenate([np.zeros(0, np.int64), *(instant.true for instant in clip)])
        found = np.concatenate([np.zeros(0, np.int64), *(instant.found for instant in clip)])
        true_ids, num_true = np.unique(true, return_counts=True)
        found_ids, num_found = np.unique(found, return_counts=True)
        return cls(
            true=true_ids.tolist(),
            found=found_ids.tolist(),
            num_true=num_true.astype(float),
            num_found=num_found.astype(float),
        )

    def rows(self, instant: Instant) -> tuple[Int64[ndarray, " a"], Int64[ndarray, " b"]]:
        """Where an instant's identities and tracks are in the table."""
        return np.searchsorted(self.true, instant.true), np.searchsorted(self.found, instant.found)

    def zeros(self) -> Float64[ndarray, "t f"]:
        return np.zeros((len(self.true), len(self.found)))


def _clear(clip: Sequence[Instant]) -> tuple[int, int]:
    """Switches and hits. A pair of the last frame goes on while it still fits, however well another fits."""
    switches = hits = 0
    last_track: dict[int, int] = {}  # of each person, whenever that was
    last_frame: dict[int, int] = {}
    for instant in clip:
        if not (len(instant.true) and len(instant.found)):
            continue
        goes_on = np.array([[last_frame.get(t) == f for f in instant.found.tolist()] for t in instant.true])
        worth = np.where(instant.similarity >= FOUND - TINY, KEEP * goes_on + instant.similarity, 0)
        rows, columns = linear_sum_assignment(-worth)
        last_frame = {}
        for row, column in zip(rows, columns, strict=True):
            if worth[row, column] <= TINY:
                continue
            person, track = int(instant.true[row]), int(instant.found[column])
            hits += 1
            switches += last_track.get(person, track) != track
            last_track[person] = last_frame[person] = track
    return switches, hits


def _idf1(clip: Sequence[Instant], table: _Identities) -> float:
    """Each person gets at most one track, so that most frames agree."""
    together = table.zeros()
    for instant in clip:
        rows, columns = table.rows(instant)
        together[np.ix_(rows, columns)] += instant.similarity >= FOUND
    rows, columns = linear_sum_assignment(-together)
    everybody = table.num_true.sum() + table.num_found.sum()
    return float(2 * together[rows, columns].sum() / max(everybody, 1))


def _hota(clip: Sequence[Instant], table: _Identities) -> tuple[float, float, float]:
    """HOTA, DetA and AssA, each the mean over the floors."""
    sizes = table.num_true[:, None] + table.num_found
    alignment = table.zeros()
    for instant in clip:
        both = instant.similarity
        union = both.sum(0)[None] + both.sum(1)[:, None] - both
        share = np.divide(both, union, out=np.zeros_like(both), where=union > TINY)
        alignment[np.ix_(*table.rows(instant))] += share
    alignment /= np.maximum(sizes - alignment, TINY)

    together = np.zeros((len(HOTA_FLOORS), *alignment.shape))
    for instant in clip:
        ids, tracks = table.rows(instant)
        rows, columns = linear_sum_assignment(-alignment[np.ix_(ids, tracks)] * instant.similarity)
        over = instant.similarity[rows, columns][None] >= HOTA_FLOORS[:, None] - TINY
        together[:, ids[rows], tracks[columns]] += over
    hits = together.sum((1, 2))
    num_true, num_found = table.num_true.sum(), table.num_found.sum()
    det_a = hits / np.maximum(num_true + num_found - hits, 1)
    ass_a = (together**2 / np.maximum(sizes - together, 1)).sum((1, 2)) / np.maximum(hits, 1)
    return float(np.sqrt(det_a * ass_a).mean()), float(det_a.mean()), float(ass_a.mean())
