"""The comparison of both engines prints what docs/13-engines.md shows, and obeys the settings."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import side_by_side, side_by_side_engines
from benchmarks.side_by_side_engines import Run, load_official
from benchmarks.side_by_side_weights import Weights
from model_cache.errors import EngineMissing
from model_cache.interfaces import TrackState
from tests.handler.results.factories import make_person

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/13-engines.md").read_text()
CPU = torch.device("cpu")


def tables(text: str) -> list[list[str]]:
    """The first column of each table, heads included, in order; which numbers are in it says the machine."""
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[re.sub(r"\d+", "N", row.split("|")[1].strip()) for row in table.splitlines()] for table in found]


def no_weights(folder: Path) -> Weights:
    """An empty folder in their place."""
    return Weights(cache=folder, store=folder, converted=folder, kind="none")


def run_of_one_person() -> Run:
    """One frame with one measured and one lost person, half a second in each stage."""
    run = Run(parts=[dict.fromkeys(side_by_side.STAGES, 0.5)])
    lost = TrackState(
        track_id=2,
        detection=None,
        confirmed=True,
        expected_pose=np.zeros(229, np.float32),
        expected_location=np.zeros(99, np.float32),
    )
    run.note(SimpleNamespace(people=make_person(1)), np.ones((1, 1)), [1], [(0, 0)], {2: lost})
    return run


def test_the_pages_tables_are_what_the_command_prints(monkeypatch, capsys, tmp_path):
    """Heads and rows of the measured tables, in the order of the command."""
    run = run_of_one_person()
    facts = json.dumps({"resident": [0] * 300, "allocated": [0] * 300, "device": None})
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: SimpleNamespace(stdout=facts))

    side_by_side.print_times(run, run, 1, CPU)
    side_by_side.print_differences(run, run)
    side_by_side.print_memory(no_weights(tmp_path), side_by_side.read_options([]), with_official=True)

    assert tables(PAGE[PAGE.index("### Measured") :]) == tables(capsys.readouterr().out)


def test_the_pages_options_are_the_commands():
    """Every option in the text about the command is one that it takes."""
    section = PAGE[PAGE.index("## Measuring") : PAGE.index("### Measured")]
    named = set(re.findall(r"`--([a-z]+)|side_by_side --([a-z]+)", section))

    assert {first or second for first, second in named} == {"device", "part", "lengths", "weights"}
    assert {first or second for first, second in named} <= vars(side_by_side.read_options([])).keys()


def test_the_readmes_figure_is_the_pages():
    """One run, told twice."""
    row = re.search(r"^\| \*\*all\*\* \|.*\| ([\d.]+)x \|$", PAGE, re.MULTILINE)
    rate = re.search(r"^\| frames per CPU second \| [\d.]+ \| ([\d.]+) \|", PAGE, re.MULTILINE)
    line = next(line for line in (ROOT / "README.md").read_text().splitlines() if "side_by_side --" in line)

    assert row is not None
    assert rate is not None
    assert f"{row[1]}x the official packages" in line
    assert f"{float(rate[1]):.1f} frames per CPU second" in line


def test_the_official_script_is_where_the_setting_says(monkeypatch, tmp_path):
    """UPSTREAM_SCRIPT counts in measurements as it does in a worker."""
    asked: list[Path | None] = []

    def refuse(script: Path | None, *, with_detectron: bool) -> None:
        asked.append(script)
        raise EngineMissing("not here")

    monkeypatch.setattr(side_by_side_engines, "import_official", refuse)
    monkeypatch.setenv("UPSTREAM_SCRIPT", str(tmp_path / "track.py"))

    with pytest.raises(EngineMissing):
        load_official(no_weights(tmp_path), {}, CPU)
    assert asked == [tmp_path / "track.py"]
