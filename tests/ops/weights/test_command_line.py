"""`python -m handler weights` as an operator meets it."""

import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from ops.weights import command
from ops.weights.command import app


@pytest.fixture(autouse=True)
def _tests_keep_their_signals(monkeypatch):
    monkeypatch.setattr(command, "exit_on_signals", lambda: None)


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
        "handler",
        "weights",
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
    assert "unknown: hmr3" in done.output


def test_signal_leaves_no_half_written_file(tmp_path):
    """`fetch` and `convert` write gigabytes; told to end, they remove what is half there."""
    script = f"""
import os, signal, sys
from pathlib import Path
from ops.weights.writer import written_whole
from ops import command_line
from ops.weights import convert as converting

def convert(sources, store, **options):
    with written_whole(store / "hmr2.safetensors") as file:
        file.write(b"half")
        print([path.name for path in store.iterdir()])
        os.kill(os.getpid(), signal.SIGTERM)

converting.convert = convert
sys.argv = ["hmr2-worker", "weights", "convert", ".", "--out", {str(tmp_path)!r}]
command_line.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ".hmr2.safetensors." in done.stdout, done.stderr
    assert done.returncode == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == [".writer.lock"]
