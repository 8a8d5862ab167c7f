"""The accuracy table: its columns, what is wanted, numbers from elsewhere."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.accuracy_clip import Scores
from benchmarks.accuracy_tracking import TrackingScores

NAME_WIDTH = 29

# What the lite models should reach on any clip of this kind, over people with a track.
LEAST = {"recall": 0.85, "precision": 0.90, "idf1": 0.90}
MOST = {"mpjpe_mm": 110.0, "pa_mpjpe_mm": 60.0}
SWITCHES_SHARE = 0.25  # of what the overlap tracker makes on the same people


@dataclass(frozen=True, slots=True)
class Row:
    """One variant's scores."""

    name: str
    scores: Scores


@dataclass(frozen=True, slots=True)
class Column:
    """One score: head (its width is the column's), number, format, meaning."""

    head: str
    number: Callable[[Scores], float]
    form: str
    meaning: str


def _identity(number: Callable[[TrackingScores], float]) -> Callable[[Scores], float]:
    return lambda scores: math.nan if scores.tracking is None else number(scores.tracking)


COLUMNS = (
    Column(" recall", lambda s: s.recall, ".3f", "share of the people who count that were found"),
    Column("  prec", lambda s: s.precision, ".3f", "share of the judged people who are there"),
    Column("  mask", lambda s: s.mask_iou, ".3f", "mean IoU of the masks of those found"),
    Column("  MPJPE", lambda s: s.mpjpe_mm, ".1f", "joint error after moving the pelvis, mm"),
    Column("   ray", lambda s: s.viewed_mm, ".1f", "the same, the true body turned as its crop shows it"),
    Column("    PA", lambda s: s.pa_mpjpe_mm, ".1f", "joint error after the best similarity, mm"),
    Column("   PVE", lambda s: s.pve_mm, ".1f", "error of the skin's vertices after moving the pelvis, mm"),
    Column("   2D", lambda s: s.pixels, ".1f", "joint error in the picture, pixels"),
    Column(
        " accel",
        lambda s: s.acceleration_mm_s2 / 1000,
        ".1f",
        "error of the joints' acceleration, 1000 mm/s²",
    ),
    Column("   IDF1", _identity(lambda t: t.idf1), ".3f", "identity F1 (Ristani et al. 2016)"),
    Column("  HOTA", _identity(lambda t: t.hota), ".3f", "Luiten et al. 2021"),
    Column("  DetA", _identity(lambda t: t.det_a), ".3f", "its part for finding people"),
    Column("  AssA", _identity(lambda t: t.ass_a), ".3f", "its part for keeping them apart"),
    Column("  sw", _identity(lambda t: t.switches), ".0f", "identity switches (CLEAR MOT)"),
    Column("   MOTA", _identity(lambda t: t.mota), ".3f", "Bernardin and Stiefelhagen 2008"),
)

LEGEND = (
    "Joints are LSP's 14 of HMR2's 44. People are paired by masks (IoU > 0.5), the mean pose by boxes.\n"
    "People of whom less than half or 1,000 pixels are seen are neither hits nor misses.\n"
    "All rules: benchmarks/accuracy_matching.py."
)

# Numbers of others, on other data: for the scale only.
ANCHORS: tuple[tuple[str, dict[str, float], str], ...] = (
    (
        "wanted",
        {" recall": 0.85, "  prec": 0.9, "  MPJPE": 110, "    PA": 60, "   IDF1": 0.9},
        "at least, at most; a quarter of the overlap tracker's switches",
    ),
    (
        "feasibility study",
        {" recall": 0.84, "  prec": 0.95, "  mask": 0.89, "  MPJPE": 95, "    PA": 47},
        "another synthetic clip; 16 switches by overlap",
    ),
    ("HMR2.0a on 3DPW", {"  MPJPE": 70.0, "    PA": 44.5}, "arXiv:2305.20091, table 1"),
    ("HMR2.0b on 3DPW", {"  MPJPE": 81.3, "    PA": 54.3}, "the released checkpoint, same table"),
    ("4DHumans on PoseTrack", {"   IDF1": 0.793, "  sw": 367, "   MOTA": 0.619}, "same paper, with ViTDet"),
)


def head_line() -> str:
    """The heads of all columns."""
    return " " * NAME_WIDTH + "".join(column.head for column in COLUMNS)


def line(row: Row) -> str:
    """One row; a dot where there is no number."""
    return _line(row.name, {column.head: column.number(row.scores) for column in COLUMNS})


def anchor_line(anchor: tuple[str, dict[str, float], str]) -> str:
    """One row of numbers from elsewhere and where they are from."""
    name, numbers, source = anchor
    return f"{_line(name, numbers)}  {source}"


def _line(name: str, numbers: dict[str, float]) -> str:
    cells = []
    for column in COLUMNS:
        number = numbers.get(column.head, math.nan)
        text = "·" if math.isnan(number) else format(number, column.form)
        cells.append(text.rjust(len(column.head)))
    return name.ljust(NAME_WIDTH) + "".join(cells)


def unmet(scores: Scores, of_overlap: Scores) -> list[str]:
    """What is wanted and was not reached, in words."""
    failed = [
        f"{name} {getattr(scores, name):.3f}, not {least}"
        for name, least in LEAST.items()
        if not getattr(scores, name) >= least
    ]
    failed += [
        f"{name} {getattr(scores, name):.1f}, not {most}"
        for name, most in MOST.items()
        if not getattr(scores, name) <= most
    ]
    assert scores.switches is not None
    assert of_overlap.switches is not None
    allowed = SWITCHES_SHARE * of_overlap.switches
    if scores.switches > allowed:
        failed.append(f"{scores.switches} switches, not {allowed:g}")
    return failed
