"""What a worker process of the endpoint finds in its environment."""

from pathlib import Path

import pytest

from handler.settings import IntakeSettings
from ops.endpoint.settings import LocalIntakeSettings
from ops.endpoint.worker_environment import worker_environment


def environment(inherited: dict[str, str], **changes: object) -> dict[str, str]:
    """A worker's environment with ordinary arguments."""
    arguments: dict[str, object] = {
        "base_url": "http://127.0.0.1:8000/v2/local",
        "worker_id": "0-abc",
        "key": "secret",
        "endpoint_id": "local",
        "ping_seconds": 5,
        "execution_timeout_seconds": 3600,
        "data": Path("/data"),
        "models": None,
        "storage": None,
        "gpu": None,
    }
    return worker_environment(inherited, **(arguments | changes))  # type: ignore[arg-type]


def test_sdk_finds_its_addresses() -> None:
    """Each has a query, since the SDK appends `&...`, and job-take in its path, since it derives others."""
    made = environment({})
    assert made["RUNPOD_WEBHOOK_GET_JOB"] == "http://127.0.0.1:8000/v2/local/job-take/$ID?gpu=local"
    for name in ("GET_JOB", "POST_OUTPUT", "POST_STREAM", "PING"):
        assert "?" in made[f"RUNPOD_WEBHOOK_{name}"]
    assert made["RUNPOD_POD_ID"] == "0-abc"
    assert made["RUNPOD_PING_INTERVAL"] == "5000"
    assert made["RUNPOD_LOG_LEVEL"] == "INFO"


def test_nothing_of_a_real_platform_leaks_in() -> None:
    """Neither variables of RunPod's nor a key that its command line saved in the home folder."""
    made = environment(
        {"RUNPOD_API_KEY": "real", "SERVE_API_KEY": "mine", "HOME": "/home/me", "PATH": "/bin"}
    )
    assert "real" not in made.values()
    assert "mine" not in made.values()
    assert made["HOME"] == "/data/home"
    assert made["PATH"] == "/bin"
    assert made["MODEL_STORE"] == "/home/me/.cache/hmr2-phalp", "the weights are still found"


def test_what_the_user_set_stays() -> None:
    """The user's own limits and models; the command line and the store beside the endpoint come first."""
    mine = {"VIDEO_ALLOW_HTTP": "false", "MODEL_STORE": "/w", "MODELS": "official", "BUCKET_NAME": "mine"}
    assert mine.items() <= environment(mine).items()
    made = environment(mine, models="lite", storage={"BUCKET_NAME": "results"}, gpu="1")
    assert (made["MODELS"], made["BUCKET_NAME"], made["CUDA_VISIBLE_DEVICES"]) == ("lite", "results", "1")


def test_worker_ends_a_job_before_the_endpoint_does() -> None:
    """Its own coded error says more than TIMED_OUT."""
    assert environment({})["WORKER_TIME_BUDGET_SECONDS"] == "3540"


def test_worker_and_webhooks_have_the_same_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker reads from its environment is what the endpoint itself goes by."""
    for inherited in ({}, {"VIDEO_ALLOW_PRIVATE_ADDRESSES": "false", "VIDEO_ALLOWED_PORTS": "[443]"}):
        for name, value in environment(inherited).items():
            if name.startswith("VIDEO_"):
                monkeypatch.setenv(name, value)
        of_worker = IntakeSettings()
        monkeypatch.undo()
        for name, value in inherited.items():
            monkeypatch.setenv(name, value)
        assert LocalIntakeSettings().model_dump() == of_worker.model_dump()
