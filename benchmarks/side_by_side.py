"""Our engine and the official packages on the same clip: `python -m benchmarks.side_by_side`.

Same weights, same detections.
Prints the time of each stage, frames per second, peak memory, how far their numbers are apart, and whose
memory grows with the clip. Where the official packages cannot be imported it says so and reports ours alone.
Without the official weights, weights by the tests' rule take their place.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from benchmarks.moving_people import HEIGHT, WIDTH, MovingPeople
from benchmarks.side_by_side_engines import (
    Run,
    load_native,
    load_official,
    official_side,
    our_side,
)
from benchmarks.side_by_side_weights import Weights, find_weights
from handler.records import CAM_T, JOINTS_2D, PlacedPeople
from model_cache.errors import EngineMissing
from model_cache.interfaces import TrackState
from model_cache.settings import ModelSettings

STAGES = (
    "crops and mask codes",
    "HMR2",
    "texture maps",
    "appearance vectors",
    "cameras, joints, records",
    "texture comparison",
    "pose prediction",
    "association and prediction of places",
)
PERCEPTION = 5  # so many of the stages happen before tracking
NUMBERS: dict[str, Callable[[PlacedPeople], np.ndarray]] = {
    "rotations, root": lambda people: people.global_orient,
    "rotations, joints": lambda people: people.body_pose,
    "shape": lambda people: people.betas,
    "crop camera (s, tx, ty)": lambda people: people.crop_cam,
    "canvas camera, m": lambda people: people.cam_t,
    "3-D joints, m": lambda people: people.joints_3d,
    "2-D joints, canvas 0 to 1": lambda people: people.joints_2d,
}
EXPECTED: dict[str, Callable[[TrackState], np.ndarray]] = {
    "expected pose of lost people": lambda state: state.expected_pose,
    "expected 2-D joints of lost people, canvas 0 to 1": lambda state: state.expected_location[JOINTS_2D],
    "expected canvas camera of lost people, m": lambda state: state.expected_location[CAM_T],
}
THRESHOLD = 100.0  # costs above it are all the same
MIB = 2**20


def main() -> None:
    """Run and print all tables."""
    options = read_options()
    device = torch.device(options.device)
    warnings.simplefilter("ignore")  # the official code leans on much that is deprecated
    with tempfile.TemporaryDirectory() as name:
        weights = find_weights(options.weights, Path(name), ModelSettings().model_store)
        clip = MovingPeople(options.frames, options.people)
        images = [clip.frame(index) for index in clip]
        print(
            f"{options.frames} frames of {WIDTH}x{HEIGHT}, {options.people} people, {weights.kind}, fp32, "
            f"{device}, threads: {torch.get_num_threads()}, numba: {'yes' if find_spec('numba') else 'no'}, "
            "detections given"
        )
        sides = [our_side(load_native(weights, clip, device), device)]
        try:
            sides.append(official_side(load_official(weights, clip, device), device))
        except EngineMissing as error:
            print(f"\nThe official packages are not importable here, so ours alone: {error}")
        # In turns, so that both meet the same machine, and its noise leaves the middle of all parts alone.
        for start in range(0, len(images), options.part):
            for side in sides:
                side.advance(images[start : start + options.part], start)
        ours, theirs = sides[0].run, sides[1].run if len(sides) > 1 else None
        print_times(theirs, ours, options.part, device)
        if theirs:
            print_differences(theirs, ours)
        print_memory(weights, options, with_official=theirs is not None)


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line, or of these arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=64, help="length of the clip that is timed")
    parser.add_argument("--people", type=int, default=3, choices=(1, 2, 3))
    parser.add_argument("--part", type=int, default=8, help="frames in turn, and per pass of our engine")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--weights", default="official", choices=("official", "full", "tiny"))
    parser.add_argument(
        "--lengths",
        type=int,
        nargs="*",
        default=[100, 300],
        help="clips whose memory is compared; none: skip",
    )
    options = parser.parse_args(arguments)
    options.part = min(options.part, options.frames)
    return options


def print_times(theirs: Run | None, ours: Run, part: int, device: torch.device) -> None:
    """Milliseconds per frame of each stage, side by side."""
    clock = "wall" if device.type == "cuda" else "CPU"
    print(f"\n| {clock} ms per frame | official | ours | official / ours |\n|---|---:|---:|---:|")
    rows = [(name, (name,)) for name in STAGES]
    rows += [("**perception**", STAGES[:PERCEPTION]), ("**tracking**", STAGES[PERCEPTION:])]
    for name, stages in rows:
        _print_row(name, _ms(theirs, stages, part), _ms(ours, stages, part))
    total, own_total = _ms(theirs, STAGES, part), _ms(ours, STAGES, part)
    _print_row("**all**", total, own_total)
    rate = f"{1e3 / total:.2f}" if total else "-"
    ratio = f"{own_total / total:.2f}" if total else "-"
    print(f"| frames per {clock} second | {rate} | {1e3 / own_total:.2f} | {ratio} |")
    print(
        "\nThe middle of all parts of the clip but the first, the engines in turn. Official: its own methods "
        "alone, without what ENGINE=upstream does around them. Appearance vectors: the official code makes "
        "them of everybody; ours encodes the textures that it compares, and no others."
    )


def _ms(run: Run | None, stages: tuple[str, ...], part: int) -> float | None:
    """Milliseconds per frame: the middle of all whole parts but the first, in which things warm up."""
    if run is None:
        return None
    num_whole = len(run.ids) // part
    seconds = [sum(seconds.get(name, 0) for name in stages) for seconds in run.parts[:num_whole]]
    return float(np.median(seconds[1:] or seconds)) / part * 1e3


def _print_row(name: str, theirs: float | None, ours: float | None) -> None:
    cells = ["-" if value is None else f"{value:.1f}" for value in (theirs, ours)]
    ratio = f"{theirs / ours:.1f}x" if theirs and ours else "-"
    print(f"| {name} | {cells[0]} | {cells[1]} | {ratio} |")


def print_differences(theirs: Run, ours: Run) -> None:
    """How far the numbers of the two are apart."""
    people = [(a, b) for a, b in zip(theirs.people, ours.people, strict=True) if len(a)]
    print(f"\n| number, {sum(len(a) for a, _ in people)} people | largest difference |\n|---|---:|")
    lost = [
        (a[identity], b[identity])
        for a, b in zip(theirs.lost, ours.lost, strict=True)
        for identity in a.keys() & b.keys()
    ]
    for pairs, numbers in ((people, NUMBERS), (lost, EXPECTED)):
        for words, number in numbers.items():
            gaps = [float(np.abs(number(a) - number(b)).max()) for a, b in pairs]
            print(f"| {words} | {f'{max(gaps):.1e}' if gaps else '-'} |")
    costs = [(a, b) for a, b in zip(theirs.costs, ours.costs, strict=True) if a.shape == b.shape and a.size]
    relative = [np.abs(b / a - 1)[(a < THRESHOLD) & (b < THRESHOLD)] for a, b in costs]
    print(
        f"| costs below the threshold, relative | {np.concatenate([r.ravel() for r in relative]).max():.1e} |"
    )
    decided = sum(((a < THRESHOLD) != (b < THRESHOLD)).sum() for a, b in costs)
    print(f"| pairs over the threshold in one engine only | {decided} |")
    for name, of in (("identities", lambda run: run.ids), ("matches", lambda run: run.matches)):
        print(f"| frames with other {name} | {_frames_apart(theirs, ours, of)} of {len(ours.ids)} |")


def _frames_apart(theirs: Run, ours: Run, of: Callable[[Run], list]) -> int:
    return sum(a != b for a, b in zip(of(theirs), of(ours), strict=True))


def print_memory(weights: Weights, options: argparse.Namespace, *, with_official: bool) -> None:
    """Each way and length in a process of its own; quarters of the clip by their middle values."""
    if not options.lengths:
        return
    ways = ["ours", *(["upstream", "track"] if with_official else [])]
    names = {"ours": "our engine", "upstream": "`ENGINE=upstream`", "track": "official `track()`"}
    print("\n| memory, MiB | frames | most | in arrays, 2nd quarter | last | per 1,000 frames | on device |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way in ways:
        for length in options.lengths:
            command = [sys.executable, "-m", "benchmarks.side_by_side_memory", way, str(length)]
            command += [str(weights.cache), str(weights.store), str(weights.converted)]
            command += [options.device, str(options.people)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            facts = json.loads(done.stdout.splitlines()[-1])
            held, device = np.array(facts["allocated"]) / MIB, facts["device"]
            second, last = (np.median(held[length * k // 4 : length * (k + 1) // 4]) for k in (1, 3))
            print(
                f"| {names[way]} | {length} | {max(facts['resident']) / MIB:.0f} | {second:.1f} | {last:.1f} "
                f"| {(last - second) / length * 2000:+.0f} "
                f"| {'-' if device is None else f'{device / MIB:.0f}'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
