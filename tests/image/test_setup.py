"""`make setup` says what it runs and nothing else, unless something fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.image.recipe import ROOT

MAKE = shutil.which("make")
# Stands for Python: makes a virtual environment that holds itself, and a pip as talkative as the real one.
PYTHON = """#!/bin/sh
case "$*" in
"-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python;;
"-m pip install --upgrade "*) echo "Downloading pip ---- 1.8 MB";;
*) echo "WARNING: Location ignored" >&2; echo "Downloading torch ---- 190 MB"; exit $PIP_STATUS;;
esac
"""


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
@pytest.mark.parametrize("status", [0, 1])
def test_what_pip_says_is_shown_only_when_it_fails(tmp_path: Path, status: int) -> None:
    """A set-up that works shows its three commands; one that fails everything that pip printed."""
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    done = subprocess.run(
        [str(MAKE), "-f", str(ROOT / "Makefile"), "setup", f"PYTHON={python}"],
        cwd=tmp_path,
        env={"PATH": os.defpath, "PIP_STATUS": str(status)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode == 0) == (status == 0)
    assert "pip install -e" in done.stdout
    assert "Downloading" not in done.stdout
    said = ["WARNING: Location ignored", "Downloading torch ---- 190 MB"] if status else []
    assert done.stderr.splitlines()[:2] == said
    assert (tmp_path / ".venv" / ".installed").exists() == (status == 0)
