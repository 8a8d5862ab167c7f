"""People against the truth of synthetic clips: `python -m benchmarks.accuracy [CLIP ...] [--seeds 101 102]`.

Prints what the lite models find in each clip, PHALP and simpler trackers on the same people, PHALP without
each of its terms, the same with a perfect detector, the mean pose, and what is known from elsewhere.
Clips of seeds are drawn first, about a minute each; without arguments the shipped clip is used. A clip is
perceived once; its textures stay in memory, 1 MB a person and frame.
"""

import argparse
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import structlog

from benchmarks.accuracy_clip import ClipScorer
from benchmarks.accuracy_people import (
    TRUE_OPTIONS,
    found_frame,
    mean_people,
    perceive,
    read_clip,
    true_perception,
)
from benchmarks.accuracy_table import ANCHORS, COLUMNS, LEGEND, Row, anchor_line, head_line, line, unmet
from benchmarks.accuracy_trackers import OVERLAP, PHALP, trackers
from benchmarks.clip_truth import read_truth
from model_cache.interfaces import Models
from model_cache.load import load
from model_cache.settings import ModelSettings

SHIPPED = Path(__file__).parent.parent / "examples" / "four_people.mp4"


def main() -> None:
    """Print a block per clip, then what to compare it with."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[])
    parser.add_argument("--every", type=int, default=1, help="use every n-th frame")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    models = load(ModelSettings(models="lite"))
    with tempfile.TemporaryDirectory() as folder:
        clips = options.clips or ([] if options.seeds else [SHIPPED])
        for clip in [*clips, *draw_clips(options.seeds, Path(folder))]:
            frames = range(0, len(read_truth(clip).times), options.every)
            print(f"\n{clip.stem}, {len(frames)} frames, every {options.every}.\n{head_line()}", flush=True)
            rows = {}
            for row in evaluate(clip, models, frames):
                print(line(row), flush=True)
                rows[row.name] = row.scores
            failed = unmet(rows[PHALP], rows[OVERLAP])
            print(f"wanted of {PHALP}: {'; '.join(failed) if failed else 'all met'}")
    print("\nfrom elsewhere\n" + "\n".join(anchor_line(anchor) for anchor in ANCHORS))
    print(
        "\n" + "\n".join(f"{column.head.strip():8s} {column.meaning}" for column in COLUMNS) + f"\n{LEGEND}"
    )


def draw_clips(seeds: list[int], folder: Path) -> Iterator[Path]:
    """Clips of four people, ten seconds each, nobody has trained or tuned on if their seeds are fresh."""
    for seed in seeds:
        from training.make_clip import ClipPlan, write_clip  # needs numba

        write_clip(ClipPlan(seed=seed), folder / f"seed_{seed}.mp4")
        yield folder / f"seed_{seed}.mp4"


def evaluate(clip: Path, models: Models, frames: range) -> Iterator[Row]:
    """All rows of a clip."""
    truth = read_truth(clip)
    people = perceive(read_clip(clip, frames), models.perception)
    scorer = ClipScorer([found_frame(frame) for frame in people], truth, models.body)
    yield Row("found, no tracks", scorer.detected())
    for name, tracker in trackers(models).items():
        yield Row(name, scorer.tracked(tracker(people)))
    people = perceive(read_clip(clip, frames), true_perception(truth, frames), TRUE_OPTIONS)
    scorer = ClipScorer([found_frame(frame) for frame in people], truth, models.body)
    for name in (PHALP, OVERLAP):
        yield Row(f"true boxes, {name}", scorer.tracked(trackers(models)[name](people)))
    mean = ClipScorer(mean_people(truth, frames), truth, models.body)
    yield Row("true boxes, mean pose", mean.detected())


if __name__ == "__main__":
    main()
