"""Which of the found people are judged, and against whom: the one set of rules behind every score.

Boxes are those of the visible pixels.

1. A true person *counts* in a frame if at least 1,000 pixels and half of the body are seen.
2. Everybody else of whom anything is seen is an *ignored region*: neither a hit nor a miss.
3. Found people are paired one to one with all true people, counting or not, for the largest total
   similarity; a pair needs a similarity above `FOUND`.
4. Whoever is paired with an ignored person is not judged. Nor is an unpaired one whose similarity to an
   ignored person is above `BARELY_SEEN`: a box around somebody's visible arm is no mistake.
5. All others are judged: with their pair a hit, without one a mistake. A true person who counts and has no
   pair is a miss.

Every score takes what is left after this: recall, precision, pose errors (over the pairs), IDF1, HOTA and
switches. The tracking scores pair anew among those left, each in the way that its authors define.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

from benchmarks.accuracy_scores import match

FOUND = 0.5  # least similarity of a pair, of masks or of boxes
BARELY_SEEN = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One frame after the rules.

    Attributes:
        true: people who count, as rows of the truth.
        found: people who are judged, as rows of what was found.
        pairs: (true person, found person) of each hit, rows as above.
        similarity: between `true` and `found`.
    """

    true: Int64[ndarray, " a"]
    found: Int64[ndarray, " b"]
    pairs: tuple[tuple[int, int], ...]
    similarity: Float64[ndarray, "a b"]


def judge(similarity: Float64[ndarray, "p n"], counts: Bool[ndarray, " p"]) -> Judged:
    """Apply the rules to one frame.

    Args:
        similarity: between all true people (0 for those of whom nothing is seen) and all found ones.
        counts: which of the true people count.
    """
    pairs = match(similarity, FOUND)
    paired = {found for _, found in pairs}
    excused = {found for true, found in pairs if not counts[true]}
    near_ignored = similarity[~counts].max(axis=0, initial=0) > BARELY_SEEN
    excused |= {int(found) for found in np.flatnonzero(near_ignored) if found not in paired}
    true = np.flatnonzero(counts)
    judged = np.array([found for found in range(similarity.shape[1]) if found not in excused], np.int64)
    return Judged(
        true=true,
        found=judged,
        pairs=tuple((t, f) for t, f in pairs if counts[t]),
        similarity=similarity[np.ix_(true, judged)],
    )
