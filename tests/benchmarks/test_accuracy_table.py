"""The accuracy table's lines, and what it says is not reached."""

import math
from dataclasses import replace

from benchmarks.accuracy_clip import Scores
from benchmarks.accuracy_table import ANCHORS, COLUMNS, Row, anchor_line, head_line, line, unmet
from benchmarks.accuracy_tracking import TrackingScores

TRACKING = TrackingScores(idf1=0.95, hota=0.8, det_a=0.8, ass_a=0.8, switches=2, mota=0.9)
GOOD = Scores(
    recall=0.9,
    precision=0.95,
    mask_iou=math.nan,
    mpjpe_mm=100.0,
    viewed_mm=80.0,
    pa_mpjpe_mm=50.0,
    pve_mm=120.0,
    pixels=7.0,
    acceleration_mm_s2=50_000.0,
    tracking=TRACKING,
)
OVERLAP = replace(GOOD, tracking=replace(TRACKING, switches=8))


def test_lines_stand_under_their_heads():
    """Every row is as wide as the head, and what there is no number for is a dot."""
    tracked, untracked = line(Row("PHALP", GOOD)), line(Row("found", replace(GOOD, tracking=None)))

    assert len(tracked) == len(untracked) == len(head_line())
    errors, identities = "100.0 80.0 50.0 120.0 7.0 50.0", "0.950 0.800 0.800 0.800 2 0.900"
    assert " ".join(tracked.split()) == f"PHALP 0.900 0.950 · {errors} {identities}"
    assert untracked.split()[-6:] == ["·"] * 6


def test_anchors_name_columns_of_the_table():
    """No number from elsewhere is lost by a misspelt column."""
    heads = {column.head for column in COLUMNS}
    for anchor in ANCHORS:
        assert set(anchor[1]) <= heads
        assert anchor[2] in anchor_line(anchor)


def test_unmet_says_what_is_missing():
    """Good scores miss nothing; each that is not good is named; no score at all is not good either."""
    bad = replace(GOOD, recall=0.5, pa_mpjpe_mm=math.nan, tracking=replace(TRACKING, switches=3))

    assert unmet(GOOD, OVERLAP) == []
    assert [text.split()[0] for text in unmet(bad, OVERLAP)] == ["recall", "pa_mpjpe_mm", "3"]
