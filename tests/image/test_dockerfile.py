"""What the Dockerfile promises, read off its instructions."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from model_cache.settings import ModelSettings
from tests.image.recipe import LOCKS, ROOT, environment, stages, values


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.upstream"])
def test_dockerfile_passes_hadolint(name: str) -> None:
    """The linter has nothing to say but what is answered beside the line."""
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint has no package for this machine")

    done = subprocess.run([linter, ROOT / name], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (0, "")


def test_base_image_is_pinned_by_tag_and_digest() -> None:
    """One base for all stages, named for people and for machines, and no other image."""
    base = dict(value.split("=", 1) for value in values("", "ARG"))["PYTHON_IMAGE"]

    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    sources = {steps[0][1].split()[0] for name, steps in stages().items() if name}
    assert sources - stages().keys() == {"${PYTHON_IMAGE}", "weights-${WEIGHTS}"}


def test_worker_runs_without_root_under_an_init() -> None:
    """A numeric user, tini as first process, and a command that no shell wraps."""
    (user,) = values("runtime", "USER")
    (entrypoint,) = values("runtime", "ENTRYPOINT")
    (command,) = values("runtime", "CMD")

    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert json.loads(entrypoint) == ["tini", "--"]
    assert json.loads(command) == ["python", "-m", "handler", "worker"]


def test_image_is_offline_and_strict_by_default(monkeypatch) -> None:
    """No hub at run time, official models or none, and no job in the SDK's log."""
    found = environment("runtime")
    for name in ("MODELS", "MODEL_STORE"):
        monkeypatch.setenv(name, found[name])
    read = ModelSettings()

    assert (found["HF_HUB_OFFLINE"], found["TRANSFORMERS_OFFLINE"]) == ("1", "1")
    assert (read.models, str(read.model_store)) == ("official", "/models")
    assert found["RUNPOD_LOG_LEVEL"] == "INFO"
    assert found["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert set(found["NVIDIA_DRIVER_CAPABILITIES"].split(",")) == {"compute", "utility", "video"}


def test_cuda_floor_is_the_same_everywhere() -> None:
    """The image's torch, the SDK's check of the host and deploy.yaml name one CUDA version."""
    (build,) = [value[6:] for value in values("build", "ARG") if value.startswith("TORCH=")]
    digits = build.removeprefix("cu")
    floor = f"{digits[:-1]}.{digits[-1]}"
    deployed = yaml.safe_load((ROOT / "deploy.yaml").read_text())["endpoint"]["gpu"]["minCudaVersion"]
    hub = json.loads((ROOT / ".runpod" / "hub.json").read_text())["config"]["allowedCudaVersions"]

    assert environment("runtime")["RUNPOD_MIN_CUDA_VERSION"] == deployed == min(hub) == floor
    assert (LOCKS / f"torch-{build}.txt").exists()
    assert (LOCKS / f"cuda-{build}.txt").exists()


def test_label_names_the_version_of_the_project() -> None:
    """Whoever raises the version raises it in both places."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert f"VERSION={version}" in values("runtime", "ARG")
    (labels,) = values("runtime", "LABEL")
    for name in ("title", "description", "licenses", "version", "revision", "created", "source"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_no_secret_and_no_address_is_written_down() -> None:
    """Secrets reach the build by a mount that no layer keeps; packages' hosts are the builder's matter."""
    (fetch,) = values("weights-fetch", "RUN")
    names = [value.split("=")[0] for stage in stages() for value in values(stage, "ARG")]
    names += environment("runtime")

    assert "://" not in (ROOT / "Dockerfile").read_text()
    assert fetch.startswith("--mount=type=secret,id=weights,required=true")
    assert [name for name in names if re.search("KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", name)] == []


def test_context_holds_what_is_copied_and_no_more() -> None:
    """.dockerignore keeps everything out but what COPY names: no tests, no weights, no git."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = {source.split("/")[0] for value in values("build", "COPY") for source in value.split()[:-1]}

    assert "*" in lines
    assert allowed - {"Dockerfile"} == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
