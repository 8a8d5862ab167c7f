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


POOL = {"pools": ["ADA_24"]}
BY_COUNT = {"type": "REQUEST_COUNT", "requestCount": 1}
WRONG = [
    ({"timeOut": 1}, "endpoint.timeOut is not known; did you mean endpoint.timeout?"),
    ({"flash_boot": "OFF"}, "endpoint.flash_boot is not known; did you mean endpoint.flashboot?"),
    ({"gpu": POOL | {"type": "L4"}}, "endpoint.gpu.type is not known; did you mean endpoint.type"),
    (
        {"workers": {"minimum": 1}},
        "endpoint.workers.minimum is not known; did you mean endpoint.workers.min?",
    ),
    ({"templateId": "x"}, "endpoint.templateId is not known"),
    ({"scaling": BY_COUNT | {"queueDelay": 4}}, "endpoint.scaling.queueDelay cannot be combined"),
    (
        {"scaling": {"type": "REQUESTS"}},
        'endpoint.scaling must be an object, such as {"type": "REQUEST_COUNT"',
    ),
    (
        {"scaling": {"type": "QUEUE_DELAY", "queueDelay": 0.1}},
        "endpoint.scaling.queueDelay must be at least 0.5",
    ),
    ({"gpu": {"pools": []}}, 'endpoint.gpu.pools is not valid; an example: ["ADA_24"]'),
    ({"gpu": POOL | {"minCudaVersion": 12.8}}, 'endpoint.gpu.minCudaVersion must be text, such as "12.8"'),
    (
        {"gpu": POOL | {"minCudaVersion": "12.8", "allowedCudaVersions": ["12.8"]}},
        "endpoint.gpu.minCudaVersion and endpoint.gpu.allowedCudaVersions exclude each other",
    ),
    ({"workers": {"min": 4, "max": 3}}, "endpoint.workers.min is above max"),
    ({"workers": {"idleTimeout": 5}, "scaling": BY_COUNT}, "endpoint.workers.idleTimeout does not go with"),
    ({"type": "LOAD_BALANCER"}, "endpoint.type must be QUEUE"),
    ({"timeout": 100}, "endpoint.timeout must be at least 5000"),
    ({"timeout": "long"}, "endpoint.timeout must be a whole number"),
    ({"name": "people -fb"}, 'endpoint.name is not valid; an example: "hmr2-phalp"'),
    ({"name": "people-fb"}, "endpoint.name ends in -fb, which older RunPod clients add"),
    ({"name": " people"}, "endpoint.name is not valid"),
    ({"env": {"WORKER_BATCH_FRAMES": 8}}, "endpoint.env.WORKER_BATCH_FRAMES must be text"),
    ({"env": {"A B": "8"}}, "endpoint.env.A B is not valid"),
    ({"flashboot": "ON"}, "endpoint.flashboot must be OFF, FLASHBOOT or PRIORITY_FLASHBOOT"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=range(len(WRONG)))
def test_file_that_is_wrong_is_refused_by_place(tmp_path, change, said):
    """Unknown keys and values that RunPod or the worker would not take; each problem is a line."""
    with pytest.raises(DeployError) as caught:
        read(tmp_path, {"endpoint": SMALLEST | change})
    first, *lines = str(caught.value).splitlines()
    assert first == "deploy.yaml is not right:"
    assert [line for line in lines if line.startswith(f"  {said}")], lines


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
        ("endpoint: 4\n", "endpoint must be an object"),
        ("secrets: {}\n", "endpoint is missing"),
        ("endpoint: {}\n2: 3\n", "the file is not valid"),
        ("endpoint: {}\nprofiles: [dev]\n", "profiles must be a mapping"),
    ],
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
    profiles = {"dev": {}, "burst": {"workers": {"maximum": 9}}}
    said = r"profile burst is not right:\n  endpoint\.workers\.maximum is not known"
    with pytest.raises(DeployError, match=said):
        read(tmp_path, {"endpoint": SMALLEST, "profiles": profiles}, "dev")
    with pytest.raises(DeployError, match="no profile 'prod'; it has dev"):
        read(tmp_path, {"endpoint": SMALLEST, "profiles": {"dev": {}}}, "prod")


SECRET = "hunter2hunter2"
IN_THE_OPEN = [
    ({"secrets": {"BUCKET_SECRET_ACCESS_KEY": SECRET}}, "secrets holds BUCKET_SECRET_ACCESS_KEY in the open"),
    ({"secrets": {"A": "{{ RUNPOD_SECRET_x }}" + SECRET}}, "secrets holds A in the open"),
    ({"endpoint": SMALLEST | {"env": {"A_KEY": SECRET, "TOKEN": SECRET}}}, "env holds A_KEY, TOKEN in the"),
    ({"secrets": {"A": {"value": SECRET}}}, "secrets.A.value is not known"),
    ({"secrets": {"A": {"fromEnv": "hunter2 hunter2"}}}, "secrets.A.fromEnv is not valid"),
    ({"secret": {"A": SECRET}}, "secret is not known; did you mean secrets?"),
]


@pytest.mark.parametrize(("change", "said"), IN_THE_OPEN, ids=range(len(IN_THE_OPEN)))
def test_secret_in_the_open_is_refused_without_repeating_it(tmp_path, change, said):
    """Only references are taken; a value typed here by mistake appears in no message."""
    with pytest.raises(DeployError) as caught:
        read(tmp_path, {"endpoint": SMALLEST} | change)
    assert said in str(caught.value)
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


RIGHT = {
    "WORKER_BATCH_FRAMES": "8",
    "VIDEO_ALLOW_HTTP": "yes",
    "VIDEO_ALLOWED_HOSTS": '["example.com"]',
    "VIDEO_ALLOWED_PORTS": "443,8443",
    "VIDEO_MAX_BYTES": "{{ RUNPOD_SECRET_x }}",
    "MODEL_STORE": "/runpod-volume/hmr2-phalp",
    "BUCKET_SECRET_ACCESS_KEY": "{{ RUNPOD_SECRET_x }}",
    "OMP_NUM_THREADS": "8",
    "RUNPOD_INIT_TIMEOUT": "900",
}


@pytest.mark.parametrize("wrong", [{}, {"WORKER_BATCH_FRAMES": "0"}, {"WORKER_BATCH_FRAMSE": "8"}], ids=str)
def test_environment_is_checked_by_the_workers_own_settings(wrong):
    """What would stop every worker at its start stops the deployment; test_environment.py has the kinds."""
    assert [line.split()[0] for line in wrong_settings(RIGHT | wrong)] == list(wrong)


def change_first(image: str = "", **keys: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """What is typed after `apply`, and what is changed in deploy.yaml before."""
    return ["--image", image] if image else [], keys


NOT_DEPLOYED = {
    "names no build": change_first("you/worker:latest"),
    "no image: set endpoint.image": change_first(endpoint={"image": None}),
    "WORKER_BATCH_FRAMES must be a whole": change_first(endpoint={"env": {"WORKER_BATCH_FRAMES": "hunter2"}}),
    "endpoint.env both hold BUCKET_NAME": change_first(endpoint={"env": {"BUCKET_NAME": "a"}}),
    "lacks them: A (for B), C (for D)": change_first(secrets={"B": {"fromEnv": "A"}, "D": {"fromEnv": "C"}}),
}


@pytest.mark.parametrize(("said", "change"), NOT_DEPLOYED.items(), ids=range(len(NOT_DEPLOYED)))
def test_what_cannot_be_deployed_stops_before_anything_is_sent(operator, rest, said, change):
    """What is wrong is named, all of it; values are not."""
    words, keys = change
    operator.edit(lambda content: [content[key].update(values) for key, values in keys.items()])
    code, text = operator("apply", *words)
    assert (code, rest.requests) == (1, [])
    assert said in text
    assert "hunter2" not in text
    operator.file.unlink()
    assert operator("plan") == (1, f"error: {operator.file} cannot be read: No such file or directory\n")


def test_empty_values_are_deployed_as_unset(operator, rest, monkeypatch):
    """A worker takes them so; what is not even empty in the shell is missing."""
    monkeypatch.setenv("MY_BUCKET_KEY", "")
    empty = {"WORKER_TIME_BUDGET_SECONDS": "", "BUCKET_REGION": "", "BUCKET_ACCESS_KEY_ID": ""}
    operator.edit(lambda content: content["endpoint"]["env"].update(empty))
    operator.edit(lambda content: content["secrets"].update(BUCKET_SECRET_ACCESS_KEY=""))
    assert operator("apply")[0] == 0
    expected = empty | {"MODELS": "lite", "BUCKET_NAME": "", "BUCKET_SECRET_ACCESS_KEY": ""}
    assert rest.only()["env"] == expected
    assert operator("plan")[0] == 0


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
    parts = ("not below the timeout", "disk (10 GB)", "gpu.count is 2", "workers.max is 0", "OMP_NUM_THREADS")
    assert [part for part in parts if part not in text] == []


def test_secrets_are_known_by_their_type_or_by_their_name():
    """Settings declared SecretStr, none of the others, and what sounds like a secret of somebody else's."""
    declared = {name for name, field in worker_settings().items() if "SecretStr" in str(field.annotation)}
    assert {name for name in worker_settings() if is_secret(name)} == declared
    assert {"BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY", "RUNPOD_AI_API_KEY"} <= declared
    assert all(map(is_secret, ("HF_TOKEN", "DB_PASSWORD", "AWS_SECRET", "MY_KEY")))
    assert not any(map(is_secret, ("OMP_NUM_THREADS", "MONKEY_COUNT", "KEYBOARD")))
