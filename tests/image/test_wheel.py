"""What the built package holds: everything that a worker needs, and nothing of how it was made."""

import email
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.image.recipe import ROOT, copy_context

PACKAGES = ("handler", "model_cache", "ops")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The package, built from a copy of the checkout with the build backend that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = copy_context(folder / "source")
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", *options, str(source)], check=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def files_of_the_packages() -> set[str]:
    """Every file below the packages, with what only running them leaves behind taken out."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in paths if path.suffix not in (".pyc", ".pyo")}


def test_wheel_holds_every_file_of_the_packages_and_no_other(wheel: zipfile.ZipFile) -> None:
    """Models, notices and type marks included; no tests, training, benchmarks or documents."""
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert inside == files_of_the_packages()
    for name in ("model_cache/lite/hmr2.safetensors", "model_cache/lite/NOTICE", "handler/py.typed"):
        assert name in inside


def test_wheel_carries_its_licence_and_its_command(wheel: zipfile.ZipFile) -> None:
    """The metadata names the licence file, the Python versions and the requirements as they are here."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = email.message_from_bytes(wheel.read(name))
    folder = Path(name).parent.as_posix()

    assert metadata["Requires-Python"] == "<3.13,>=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert b"hmr2-worker = ops.command_line:main" in wheel.read(f"{folder}/entry_points.txt")
