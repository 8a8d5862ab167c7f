"""`python -m model_cache` as an operator meets it."""

import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from model_cache.__main__ import app


def test_convert_prints_what_was_made_and_what_was_left_out(official_tiny_files, tmp_path):
    """The report names files with hashes and each unused key with its reason."""
    arguments = ["convert", official_tiny_files, "--out", tmp_path / "store", "--only", "hmr2"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "store" / "hmr2.safetensors").is_file()
    for words in (
        "hmr2.safetensors",
        "from epoch=35-step=1000000.ckpt  sha256 ",
        "not used, only trains the network: discriminator.D_conv1.weight, discriminator.betas_fc1.bias",
    ):
        assert words in done.stdout


def test_convert_says_in_one_line_what_is_missing(tmp_path):
    """A user's mistake is a sentence on stderr and status 1, never a traceback."""
    command = [
        sys.executable,
        "-m",
        "model_cache",
        "convert",
        str(tmp_path),
        "--out",
        str(tmp_path / "store"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("WeightsMissing: official files not found: ")
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_convert_refuses_an_unknown_model(tmp_path):
    """A misspelt --only is a usage error."""
    done = CliRunner().invoke(app, ["convert", str(tmp_path), "--only", "hmr3"])
    assert done.exit_code == 2
    assert "unknown model: hmr3" in done.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_leaves_no_half_written_file(tmp_path, number):
    """`fetch` and `convert` write gigabytes; told to end, they remove what is half there."""
    script = f"""
import os
from pathlib import Path
from model_cache import __main__ as command
from model_cache.store.files import written_whole

def convert():
    with written_whole(Path({str(tmp_path)!r}) / "hmr2.safetensors") as file:
        file.write(b"half")
        print(sorted(os.listdir({str(tmp_path)!r})))
        os.kill(os.getpid(), {int(number)})

command.app = convert
command.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ".hmr2.safetensors." in done.stdout
    assert (done.returncode, list(tmp_path.iterdir())) == (128 + number, [])
