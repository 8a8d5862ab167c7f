"""A fake RunPod account, a deploy.yaml in a folder of its own, and the command line."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stamina
import yaml
from typer.testing import CliRunner

from ops.command_line import app
from ops.deploy.settings import DeploySettings
from tests.ops.deploy.fake_rest import KEY, FakeRest, serving

IMAGE = "registry.example.com/you/worker:0.1.0"
TRIES = 4  # of a request, where the program itself makes five
LOCAL_SECRET = "local-secret-value-1234"


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch, own_logging: None) -> Iterator[FakeRest]:
    """The account, reached through the environment as an operator's shell has it; retries do not wait."""
    for name, value in {
        "RUNPOD_API_KEY": KEY,
        "RUNPOD_DEPLOY_RELEASE_SECONDS": "20",
        "MY_BUCKET_KEY": LOCAL_SECRET,
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("ops.deploy.command.DeploySettings", partial(DeploySettings, poll_seconds=0.01))
    with serving(FakeRest()) as fake, stamina.set_testing(True, attempts=TRIES, cap=True):
        monkeypatch.setenv("RUNPOD_DEPLOY_URL", fake.url)
        yield fake


@dataclass
class Operator:
    """Types `python -m handler deploy ...` in the folder of a deploy.yaml."""

    folder: Path
    output: list[str] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "deploy.yaml"

    def write(self, content: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump(content))

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        content = yaml.safe_load(self.file.read_text())
        change(content)
        self.write(content)

    def __call__(self, *words: str) -> tuple[int, str]:
        """Exit code and everything printed."""
        result = CliRunner().invoke(app, ["deploy", *words, "--file", str(self.file)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.output.append(result.output)
        return result.exit_code, result.output


@pytest.fixture
def operator(rest: FakeRest, tmp_path: Path) -> Operator:
    """With a deploy.yaml that is right."""
    typing = Operator(tmp_path)
    typing.write(
        {
            "endpoint": {
                "name": "people",
                "image": IMAGE,
                "env": {"MODELS": "lite", "WORKER_TIME_BUDGET_SECONDS": "600"},
                "gpu": {"pools": ["ADA_24", "AMPERE_24"], "minCudaVersion": "12.8"},
                "scaling": {"type": "REQUEST_COUNT", "requestCount": 1},
                "timeout": 900_000,
            },
            "secrets": {
                "BUCKET_NAME": {"fromEnv": "MY_BUCKET_KEY"},
                "BUCKET_SECRET_ACCESS_KEY": "{{ RUNPOD_SECRET_bucket }}",
            },
            "profiles": {
                "busy": {"workers": {"max": 9}},
                "warm": {
                    "workers": {"min": 1, "idleTimeout": 60},
                    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
                },
            },
        }
    )
    return typing
