"""The example clients against a real endpoint: submit, follow or be called, read the frames as a stream."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handler.job import JobInput
from ops.endpoint.api import RunRequest
from tests.end_to_end.conftest import LONG_FRAMES, SHORT_FRAMES, System

pytestmark = pytest.mark.timeout(180)
EXAMPLES = Path(__file__).parents[2] / "examples"
TYPESCRIPT = EXAMPLES / "typescript"


def clip_for(*, by_webhook: bool) -> str:
    """Polling once a second sees progress of the long clip only."""
    return "short" if by_webhook else "long"


def check_output(text: str, *, by_webhook: bool) -> None:
    """What a client prints about its clip."""
    lines = text.splitlines()
    assert lines[0].startswith("job ")
    num_frames = SHORT_FRAMES if by_webhook else LONG_FRAMES
    assert f"{num_frames} frames, 2 people, models: lite" in lines
    assert f"person 1: in {num_frames} frames" in lines
    if by_webhook:
        assert "webhook called" in lines
        return
    assert "COMPLETED" in text
    counts = [int(count) for count in re.findall(r"track (\d+)/", text)]
    assert counts == sorted(counts)
    assert counts, "no progress was shown"


@pytest.mark.parametrize("by_webhook", [False, True], ids=["polling", "webhook"])
def test_python_client_runs_a_job(system: System, tmp_path: Path, by_webhook: bool) -> None:
    """A local file is uploaded; the frames are read back from the bucket."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(system.store.get(f"videos/{clip_for(by_webhook=by_webhook)}.mp4"))
    done = _python(system, clip, *(["--webhook"] if by_webhook else []))
    assert done.returncode == 0, done.stderr
    check_output(done.stdout, by_webhook=by_webhook)


def test_python_client_says_why_a_job_failed(system: System, tmp_path: Path) -> None:
    """The code, and whether to try again."""
    clip = tmp_path / "clip.mp4"
    clip.write_text("no video")
    done = _python(system, clip)
    assert done.returncode == 1
    assert "failed: VIDEO_UNREADABLE" in done.stdout
    assert "do not retry" in done.stdout


@pytest.fixture(scope="module")
def typescript_client(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the compiled client; compiling checks its types, the generated ones among them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("typescript")
    for file in TYPESCRIPT.glob("*.*"):
        shutil.copy(file, folder)
    install = _run("npm", "ci", "--no-audit", "--no-fund", cwd=folder)
    if install.returncode != 0:
        pytest.skip(f"the TypeScript compiler cannot be installed: {install.stderr[-300:]}")
    build = _run("npm", "run", "build", cwd=folder)
    assert build.returncode == 0, build.stdout
    return ["node", str(folder / "dist" / "main.js")]


@pytest.mark.slow
@pytest.mark.parametrize("by_webhook", [False, True], ids=["polling", "webhook"])
def test_typescript_client_runs_a_job(system: System, typescript_client: list[str], by_webhook: bool) -> None:
    """It signs its own URLs: the worker reads the video and writes the results without keys."""
    arguments = [f"videos/{clip_for(by_webhook=by_webhook)}.mp4", *(["--webhook"] if by_webhook else [])]
    done = _run(*typescript_client, *arguments, env=_environment(system))
    assert done.returncode == 0, done.stderr
    check_output(done.stdout, by_webhook=by_webhook)
    assert system.store.keys("jobs/")


@pytest.mark.slow
def test_typescript_client_says_why_a_job_failed(system: System, typescript_client: list[str]) -> None:
    """The code, and whether to try again."""
    done = _run(*typescript_client, "videos/nothing.mp4", env=_environment(system))
    assert done.returncode == 1
    assert "failed: DOWNLOAD_NOT_FOUND" in done.stderr
    assert "do not retry" in done.stderr


def test_example_request_is_valid() -> None:
    """What people copy is accepted by the endpoint and by the worker."""
    request = json.loads((EXAMPLES / "request.json").read_text())
    JobInput.model_validate(RunRequest.model_validate(request).input)


def _run(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def _python(system: System, clip: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    client, settings = EXAMPLES / "python_client.py", system.endpoint.data / "client.env"
    return _run(sys.executable, str(client), str(clip), "--env", str(settings), *arguments)


def _environment(system: System) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **system.endpoint.client}  # noqa: TID251 - for a child
