"""`python -m handler fitness`: the worker's own checks without a queue."""

import pytest
from typer.testing import CliRunner

from model_cache.errors import WeightsMissing
from ops import command_line
from tests.fakes import FakeModels


@pytest.fixture
def loaded(monkeypatch, tmp_path):
    """Loads fake models and keeps the choice that was asked for."""
    choices = []

    def load(settings, choice=None):
        choices.append(choice)
        return FakeModels()

    monkeypatch.setattr(command_line, "_load_models", load)
    monkeypatch.setenv("WORKER_SCRATCH", str(tmp_path))
    monkeypatch.setenv("VIDEO_RESERVE_DISK_BYTES", "0")
    monkeypatch.delenv("MODELS", raising=False)
    return choices


def test_fitness_names_every_check_and_asks_for_what_a_worker_would(loaded) -> None:
    """A fit worker says so check by check; without MODELS in the environment that is the official models."""
    result = CliRunner().invoke(command_line.app, ["fitness"])

    assert result.exit_code == 0
    checks = ["models_answer", "scratch_has_room", "video_decodes", "bucket_is_complete"]
    assert result.stdout.splitlines()[:-1] == [f"{check}: yes" for check in checks]
    assert result.stdout.splitlines()[-1].startswith("fit, with the ")
    assert loaded == ["official"]


def test_fitness_fails_with_the_reason_of_the_first_failed_check(loaded, monkeypatch) -> None:
    """Half a set of bucket settings makes the worker unfit, and the exit code says so."""
    monkeypatch.setenv("BUCKET_NAME", "results")

    result = CliRunner().invoke(command_line.app, ["fitness"])

    assert result.exit_code == 1
    assert "unfit: set BUCKET_ACCESS_KEY_ID, BUCKET_SECRET_ACCESS_KEY as well" in result.stderr


def test_fitness_fails_without_weights(monkeypatch) -> None:
    """Missing weights are a reason, not a traceback."""

    def load(settings, choice=None):
        raise WeightsMissing("hmr2.safetensors is not in the store")

    monkeypatch.setattr(command_line, "_load_models", load)

    result = CliRunner().invoke(command_line.app, ["fitness"])

    assert (result.exit_code, result.stderr) == (1, "unfit: hmr2.safetensors is not in the store\n")
