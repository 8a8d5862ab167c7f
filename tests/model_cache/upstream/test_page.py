"""docs/13-engines.md, the files it names and the messages that lead to it agree with each other."""

import re
import tomllib
from pathlib import Path

from model_cache.settings import ModelSettings
from ops.weights.settings import WeightSettings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/13-engines.md").read_text()
IMAGE = (ROOT / "Dockerfile.upstream").read_text()
COMMANDS = "\n".join(re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def test_settings_that_are_named_exist():
    """In the page, in messages and in the image's recipe."""
    sources = [*(ROOT / "model_cache").rglob("*.py"), *(ROOT / "docs").glob("*.md")]
    text = "\n".join([IMAGE, *(path.read_text() for path in sources)])
    fields = {*ModelSettings.model_fields, *(f"weights_{name}" for name in WeightSettings.model_fields)}

    named = set(re.findall(r"\b(?:WEIGHTS_)?UPSTREAM_[A-Z]+(?:_[A-Z]+)*\b", text)) - {"UPSTREAM_DETECTORS"}

    assert len(named) >= 5
    assert {name.lower() for name in named} <= fields


def test_files_and_extras_of_the_commands_exist():
    """Whoever types the page's commands finds what they name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = set(re.findall(r'"\.\[(.*?)\]"', COMMANDS + IMAGE))
    files = set(re.findall(r"(?:locks|tests)/[\w./-]+|Dockerfile\.\w+", COMMANDS + IMAGE))

    known = project["project"]["optional-dependencies"].keys()
    assert {name for names in extras for name in names.split(",")} <= known
    assert files
    assert not [name for name in files if not (ROOT / name).exists()]


def test_the_script_is_of_the_packages_commit():
    """track.py and the package hmr2 come from one commit, on the page and in the image."""
    pin = re.search(r"4D-Humans@([0-9a-f]{40})", (ROOT / "locks/upstream.in").read_text())

    assert pin is not None
    for text in (PAGE, IMAGE):
        assert re.findall(r"4D-Humans/([0-9a-f]{40})/track\.py", text) == [pin[1]]


def test_nothing_of_the_first_line_asks_for_torchvision():
    """The plain extra brings no torchvision that might not fit torch; timm, which asks for it, is apart."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    names = {re.split(r"[<>=~]", requirement)[0] for requirement in extras["upstream"]}

    assert not names & {"torchvision", "timm"}
    assert "torchvision" in {re.split(r"[<>=~]", name)[0] for name in extras["upstream-detectors"]}
