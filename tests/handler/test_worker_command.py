"""What the command `worker` loads."""

import pytest
from typer.testing import CliRunner

import handler.worker
import model_cache.load
from ops.command_line import app


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "official"), ({"MODELS": "lite"}, "lite"), ({"MODELS": "auto"}, "auto")],
    ids=["nothing said", "lite", "auto"],
)
def test_worker_insists_on_official_models_unless_told_otherwise(monkeypatch, environment, expected):
    """A worker without MODELS in its environment never falls back to the lite models."""
    monkeypatch.delenv("MODELS", raising=False)
    wanted = []
    monkeypatch.setattr(model_cache.load, "load", lambda settings, **_: wanted.append(settings.models))
    monkeypatch.setattr(handler.worker, "start", lambda load, settings: load())

    result = CliRunner().invoke(app, ["worker"], env=environment)

    assert result.exit_code == 0, result.output
    assert wanted == [expected]
