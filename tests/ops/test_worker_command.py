"""What the command `worker` loads."""

import pytest
from typer.testing import CliRunner

import handler.worker
import model_cache.load
from ops.command_line import app, main


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


def test_fault_of_a_command_is_a_sentence(monkeypatch, capsys, tmp_path):
    """Whatever a command raises: status 1, one line, and the traceback in a file."""

    def fail(*_, **__):
        raise ZeroDivisionError("one by zero")

    monkeypatch.setattr(model_cache.load, "load", fail)
    monkeypatch.setattr("sys.argv", ["hmr2-worker", "fitness"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main()
    (log,) = tmp_path.glob("*.log")
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        f"error: an unexpected fault (details: {log}): ZeroDivisionError: one by zero\n"
    )
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("VIDEO_ALLOWED_PORTS", "s3cret", "VIDEO_ALLOWED_PORTS is not valid: Ports accepted, or `any`"),
        ("MODEL_DEVICE", "s3cret", "MODEL_DEVICE is not valid: auto, cpu, cuda or cuda:N"),
    ],
)
def test_a_wrong_setting_is_a_sentence_without_its_value(monkeypatch, capsys, name, value, told):
    """No traceback, and nothing of what may be a secret."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("MODELS", "lite")
    monkeypatch.setattr("sys.argv", ["hmr2-worker", "fitness"])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr().err
    assert ended.value.code == 1
    assert shown.startswith(f"error: {told}\n")
    assert "s3cret" not in shown
