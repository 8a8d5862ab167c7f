"""What deploy.yaml may say, and how it is told when it is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.deploy import DeployError
from ops.deploy.deploy_file import DeployFile, check_image, read_deploy_file
from ops.environment import is_secret, worker_settings, wrong_settings

DIGEST = "sha256:" + "0123456789abcdef" * 4
SMALLEST: dict[str, Any] = {
    "name": "people",
    "gpu": {"pools": ["ADA_24"]},
    "scaling": {"type": "QUEUE_DELAY", "queueDelay": 4},
    "timeout": 60_000,
}


def read(folder: Path, content: Any, profile: str | None = None) -> DeployFile:
    """`content` as deploy.yaml, read back."""
    path = folder / "deploy.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_deploy_file(path, profile)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"timeOut": 1}, "endpoint.timeOut - unknown key"),
        ({"flash_boot": "OFF"}, "endpoint.flash_boot - unknown key"),
        ({"gpu": {"pools": ["ADA_24"], "type": "L4"}}, "endpoint.gpu.type - unknown key"),
        ({"workers": {"minimum": 1}}, "endpoint.workers.minimum - unknown key"),
        ({"templateId": "x"}, "endpoint.templateId - unknown key"),
        (
            {"scaling": {"type": "REQUEST_COUNT", "requestCount": 1, "queueDelay": 4}},
            "queueDelay - unknown key",
        ),
        ({"gpu": {"pools": []}}, "endpoint.gpu.pools"),
        ({"gpu": {"pools": ["ADA_24"], "minCudaVersion": 12.8}}, "endpoint.gpu.minCudaVersion"),
        (
            {"gpu": {"pools": ["ADA_24"], "minCudaVersion": "12.8", "allowedCudaVersions": ["12.8"]}},
            "exclude each other",
        ),
        ({"workers": {"min": 4, "max": 3}}, "min is above max"),
        (
            {"workers": {"idleTimeout": 5}, "scaling": {"type": "REQUEST_COUNT", "requestCount": 1}},
            "idleTimeout",
        ),
        ({"scaling": {"type": "QUEUE_DELAY", "queueDelay": 0.1}}, "queueDelay"),
        ({"type": "LOAD_BALANCER"}, "endpoint.type"),
        ({"timeout": 100}, "endpoint.timeout"),
        ({"name": "people -fb"}, "endpoint.name"),
        ({"name": "people-fb"}, "older RunPod clients"),
        ({"name": " people"}, "endpoint.name"),
        ({"env": {"WORKER_BATCH_FRAMES": 8}}, "endpoint.env.WORKER_BATCH_FRAMES"),
        ({"flashboot": "ON"}, "endpoint.flashboot"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_file_that_is_wrong_is_refused_by_place(tmp_path, change, place):
    """Unknown keys and values that RunPod or the worker would not take are named by their path."""
    with pytest.raises(DeployError) as caught:
        read(tmp_path, {"endpoint": SMALLEST | change})
    assert place in str(caught.value)


def test_smallest_file_gets_defaults_fit_for_video(tmp_path):
    """FlashBoot on, no worker idle for ever, room for a large video; `timeout` must be said."""
    endpoint = read(tmp_path, {"endpoint": SMALLEST}).endpoint
    body = endpoint.body("a/b:1", {})
    assert body["flashboot"] == "FLASHBOOT"
    assert body["workers"] == {"min": 0, "max": 3, "idleTimeout": 10}
    assert body["disk"] == 50
    off = read(tmp_path, yaml.safe_dump({"endpoint": SMALLEST}) + "  flashboot: OFF\n")  # false in YAML 1.1
    assert off.endpoint.flashboot == "OFF"
    with pytest.raises(DeployError, match=r"endpoint\.timeout"):
        read(tmp_path, {"endpoint": {key: value for key, value in SMALLEST.items() if key != "timeout"}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("endpoint:\n  name: a\n  name: b\n", "line 3: name is there twice"),
        ("endpoint:\n\tname: a\n", "line 2: found character"),
        ("- a\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("endpoint: {? [a] : b}\n", "line 1: found unhashable key"),
        ("endpoint: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("endpoint: 4\n", "endpoint - "),
        ("endpoint: {}\nprofiles: [dev]\n", "profiles must be a mapping"),
    ],
    ids=["twice", "tab", "list", "empty", "odd-key", "object", "number", "profiles"],
)
def test_text_that_is_no_deploy_file_is_refused(tmp_path, text, said):
    """The line is named, never quoted: it may hold a secret."""
    with pytest.raises(DeployError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_profile_is_laid_over_the_endpoint(tmp_path):
    """Mappings are merged, lists and `scaling` replace, null takes away."""
    under = SMALLEST | {
        "env": {"MODELS": "lite", "MODEL_STORE": "/a"},
        "workers": {"max": 5, "idleTimeout": 30},
        "gpu": {"pools": ["ADA_24", "AMPERE_24"], "minCudaVersion": "12.8"},
    }
    over = {
        "env": {"MODELS": "official", "MODEL_STORE": None},
        "workers": {"idleTimeout": None},
        "gpu": {"pools": ["AMPERE_48"]},
        "scaling": {"type": "REQUEST_COUNT", "requestCount": 2},
    }
    endpoint = read(tmp_path, {"endpoint": under, "profiles": {"big": over}}, "big").endpoint
    assert endpoint.env == {"MODELS": "official"}
    assert endpoint.body("a/b:1", {})["workers"] == {"min": 0, "max": 5}
    assert endpoint.gpu.pools == ("AMPERE_48",)
    assert endpoint.gpu.min_cuda_version == "12.8"
    assert endpoint.body("a/b:1", {})["scaling"] == {"type": "REQUEST_COUNT", "requestCount": 2}


def test_every_profile_is_checked_whichever_is_asked_for(tmp_path):
    """A mistake in `burst` is found on the day it is written, not on the day of the burst."""
    content = {"endpoint": SMALLEST, "profiles": {"dev": {}, "burst": {"workers": {"maximum": 9}}}}
    with pytest.raises(
        DeployError, match=r"profile burst is not right:\n  endpoint\.workers\.maximum - unknown"
    ):
        read(tmp_path, content, "dev")
    with pytest.raises(DeployError, match="no profile 'prod'; it has dev"):
        read(tmp_path, {"endpoint": SMALLEST, "profiles": {"dev": {}}}, "prod")


@pytest.mark.parametrize(
    "content",
    [
        {"endpoint": SMALLEST, "secrets": {"BUCKET_SECRET_ACCESS_KEY": "hunter2hunter2"}},
        {"endpoint": SMALLEST, "secrets": {"A": "{{ RUNPOD_SECRET_x }}hunter2hunter2"}},
        {"endpoint": SMALLEST | {"env": {"BUCKET_SECRET_ACCESS_KEY": "hunter2hunter2"}}},
        {"endpoint": SMALLEST | {"env": {"MY_API_TOKEN": "hunter2hunter2"}}},
        {"endpoint": SMALLEST, "secrets": {"A": {"value": "hunter2hunter2"}}},
        {"endpoint": SMALLEST, "secrets": {"A": {"fromEnv": "hunter2 hunter2"}}},
        {"endpoint": SMALLEST, "secret": {"A": "hunter2hunter2"}},
    ],
    ids=["plain", "reference-and-more", "in-env", "sounds-secret", "value-key", "from-env", "misspelt"],
)
def test_secret_in_the_open_is_refused_without_repeating_it(tmp_path, content):
    """Only references are taken; a value typed here by mistake appears in no message."""
    with pytest.raises(DeployError) as caught:
        read(tmp_path, content)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        "you/worker:0.1.0",
        "registry.example.com:5000/you/worker:0.1.0",
        f"you/worker@{DIGEST}",
        f"you/worker:latest@{DIGEST}",
        "worker:2026-09-01_a.b",
    ],
)
def test_image_that_names_one_build_is_taken(image):
    """A version, or a digest, which makes the tag a remark."""
    assert check_image(image) == image


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("you/worker:latest", "latest"),
        ("you/worker:LATEST", "latest"),
        ("you/worker", "no tag"),
        ("registry.example.com:5000/you/worker", "no tag"),
        ("you/worker:", "no tag"),
        ("you/worker@sha256:12", "digest"),
        ("you/worker:a b", "tag"),
        ("You/Worker:1", "not an image reference"),
        ("https://example.com/you/worker:1", "not an image reference"),
        ("you//worker:1", "not an image reference"),
        (":1", "not an image reference"),
    ],
)
def test_image_that_is_no_build_is_refused(image, said):
    """RunPod's hosts may serve a cached image of the same name to some workers."""
    with pytest.raises(DeployError, match=said):
        check_image(image)


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("WORKER_BATCH_FRAMES", "8", True),
        ("WORKER_BATCH_FRAMES", "0", False),
        ("WORKER_BATCH_FRAMES", "many", False),
        ("WORKER_BATCH_FRAMSE", "8", False),
        ("VIDEO_MAX_FRAMES", "100", False),  # a constant: the worker would not heed it
        ("VIDEO_ALLOW_HTTP", "yes", True),
        ("VIDEO_ALLOWED_HOSTS", '["example.com"]', True),
        ("VIDEO_ALLOWED_HOSTS", "example.com,example.org", True),
        ("VIDEO_ALLOWED_PORTS", "443,8443", True),
        ("VIDEO_ALLOWED_PORTS", "https", False),
        ("MODELS", "offical", False),
        ("MODEL_STORE", "/runpod-volume/hmr2-phalp", True),
        ("BUCKET_SECRET_ACCESS_KEY", "{{ RUNPOD_SECRET_x }}", True),
        ("WORKER_BATCH_FRAMES", "{{ RUNPOD_SECRET_x }}", True),
        ("OMP_NUM_THREADS", "8", True),
        ("RUNPOD_INIT_TIMEOUT", "900", True),
    ],
)
def test_environment_is_checked_by_the_workers_own_settings(name, value, right):
    """What would stop every worker at its start stops the deployment instead."""
    assert (wrong_settings({name: value}) == []) == right


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (None, [], "deploy.yaml cannot be read"),
        ({}, ["--image", "you/worker:latest"], "latest"),
        ({"endpoint": {"image": None}}, [], "--image"),
        (
            {"endpoint": {"env": {"WORKER_BATCH_FRAMES": "hunter2"}}},
            [],
            "WORKER_BATCH_FRAMES must be a whole number",
        ),
        ({"endpoint": {"env": {"BUCKET_NAME": "a"}}}, [], "BUCKET_NAME is in both"),
        ({"secrets": {"A": {"fromEnv": "ONE"}, "C": {"fromEnv": "EMPTY"}}}, [], "ONE (for A), EMPTY (for C)"),
    ],
    ids=["no file", "moving image", "no image", "environment", "said twice", "not in the shell"],
)
def test_what_cannot_be_deployed_stops_before_anything_is_sent(
    operator, rest, monkeypatch, change, words, said
):
    """What is wrong is named, all of it; values are not."""
    monkeypatch.setenv("EMPTY", "")
    if change is None:
        operator.file.unlink()
    else:
        operator.edit(lambda content: [content[key].update(values) for key, values in change.items()])
    code, text = operator("apply", *words)
    assert (code, rest.requests) == (1, [])
    assert said in text
    assert "hunter2" not in text


def test_limits_that_contradict_each_other_are_remarked(operator, rest):
    """The budget above the timeout, a disk too small, names nobody reads, no workers: said, not refused."""
    operator.edit(
        lambda content: content["endpoint"].update(
            disk=10, timeout=60_000, workers={"max": 0}, gpu={"pools": ["ADA_24"], "count": 2}
        )
    )
    operator.edit(lambda content: content["endpoint"]["env"].update(OMP_NUM_THREADS="4"))
    operator.edit(lambda content: content.pop("profiles"))
    code, text = operator("plan")
    assert code == 0
    for part in (
        "not below the timeout",
        "disk (10 GB)",
        "gpu.count is 2",
        "workers.max is 0",
        "OMP_NUM_THREADS",
    ):
        assert part in text


def test_secrets_are_known_by_their_type_or_by_their_name():
    """Settings declared SecretStr, none of the others, and what sounds like a secret of somebody else's."""
    declared = {name for name, field in worker_settings().items() if "SecretStr" in str(field.annotation)}
    assert {name for name in worker_settings() if is_secret(name)} == declared
    assert {"BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY", "RUNPOD_AI_API_KEY"} <= declared
    assert all(map(is_secret, ("HF_TOKEN", "DB_PASSWORD", "AWS_SECRET", "MY_KEY")))
    assert not any(map(is_secret, ("OMP_NUM_THREADS", "MONKEY_COUNT", "KEYBOARD")))
