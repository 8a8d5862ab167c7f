"""deploy.yaml, the Hub's files and test_input.json say what the worker, RunPod and the docs say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from handler.job import JobInput
from handler.settings import BucketSettings
from ops.deploy.deploy_file import DeployFile, read_deploy_file, remarks, resolve_environment
from ops.deploy.plan import make_plan
from ops.environment import worker_settings, wrong_settings
from tests.ops.deploy.fake_rest import validator

ROOT = Path(__file__).parents[3]
PROFILES = (None, "dev", "burst", "steady")
PREFIXES = ("VIDEO_", "BUCKET_", "WORKER_", "CLEAR_CACHE_", "MODEL")


def shipped(profile: str | None) -> tuple[DeployFile, dict[str, str]]:
    """deploy.yaml and the environment it gives a worker."""
    file = read_deploy_file(ROOT / "deploy.yaml", profile)
    return file, resolve_environment(file, dict.fromkeys(file.from_here.values(), "https://x"))


def hub(name: str) -> Any:
    """One of the Hub's files."""
    return json.loads((ROOT / ".runpod" / name).read_text())


@pytest.mark.parametrize("profile", PROFILES)
def test_deploy_file_is_accepted_by_runpod_and_by_the_worker(profile):
    """Every profile's body fits the published schema; its variables are settings; the page names it."""
    file, environment = shipped(profile)
    body = make_plan(file.endpoint.body("you/worker:0.1.0", environment), None).body
    validator("CreateEndpointRequest").validate(body)
    assert environment.keys() - worker_settings().keys() == set()
    assert wrong_settings(environment) + remarks(file.endpoint, environment) == []
    assert (file.endpoint.name == "hmr2-phalp-dev") == (profile == "dev")
    assert profile is None or f"`{profile}`" in (ROOT / "docs" / "10-deploy.md").read_text()


def test_variables_in_comments_of_the_deploy_file_exist():
    """What a user may uncomment is a setting too."""
    words = set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", (ROOT / "deploy.yaml").read_text()))
    assert (named := {word for word in words if word.startswith(PREFIXES)})
    assert named - worker_settings().keys() == set()


def test_hub_file_offers_settings_of_the_worker():
    """Each variable exists; each default, option and preset is a value the worker accepts."""
    config = hub("hub.json")["config"]
    keys = [variable["key"] for variable in config["env"]]
    assert set(keys) - worker_settings().keys() == set()
    assert len(keys) == len(set(keys))
    for variable in config["env"]:
        offered = variable["input"]
        values = [offered["default"], *(option["value"] for option in offered.get("options", ()))]
        assert [wrong_settings({variable["key"]: str(value)}) for value in values] == [[]] * len(values)
        if offered["type"] == "number":
            assert offered["min"] <= offered["default"] <= offered["max"]
    for preset in config["presets"]:
        assert set(preset["defaults"]) <= set(keys)
        assert wrong_settings(preset["defaults"]) == []


def test_fields_left_empty_in_the_hub_count_as_not_set(monkeypatch):
    """The form sends "" for them; a bucket that is not named must not be a bucket called nothing."""
    for variable in hub("hub.json")["config"]["env"]:
        monkeypatch.setenv(variable["key"], "")
    bucket = BucketSettings()
    assert {bucket.name, bucket.endpoint_url, bucket.region, bucket.access_key_id} == {None}


def test_hub_files_have_the_documented_shape():
    """Required keys and their types, as RunPod's publishing guide lists them."""
    listing, tests = hub("hub.json"), hub("tests.json")
    assert listing.keys() >= {"title", "description", "type", "category", "config"}
    assert (listing["type"], listing["category"]) == ("serverless", "video")
    config = listing["config"]
    assert config["runsOn"] == "GPU"
    assert {type(config[name]) for name in ("containerDiskInGb", "gpuCount")} == {int}
    for variable in config["env"]:
        assert variable.keys() == {"key", "input"}
        assert variable["input"]["type"] in {"string", "number", "boolean", "huggingface"}
    assert {"gpuTypeId", "gpuCount"} <= tests["config"].keys()
    for test in tests["tests"]:
        assert test.keys() == {"name", "input", "timeout"}
        assert isinstance(test["timeout"], int)
    for variable in tests["config"]["env"]:
        assert variable["key"] in worker_settings()
        assert wrong_settings({variable["key"]: variable["value"]}) == []


def test_hub_and_deploy_file_agree():
    """The same pools, disk and CUDA floor in both."""
    endpoint, config = shipped(None)[0].endpoint, hub("hub.json")["config"]
    assert config["gpuIds"].split(",") == list(endpoint.gpu.pools)
    assert config["containerDiskInGb"] == endpoint.disk
    assert config["gpuCount"] == endpoint.gpu.count
    for name in ("hub.json", "tests.json"):
        allowed = [tuple(map(int, text.split("."))) for text in hub(name)["config"]["allowedCudaVersions"]]
        assert "{}.{}".format(*min(allowed)) == endpoint.gpu.min_cuda_version


def test_sample_jobs_are_valid_requests():
    """test_input.json is a whole job, the Hub's tests are inputs."""
    job = json.loads((ROOT / "test_input.json").read_text())
    assert isinstance(job["id"], str)
    for request in (job["input"], *(test["input"] for test in hub("tests.json")["tests"])):
        JobInput.model_validate(request)


def test_cost_table_is_right_arithmetic():
    """docs/11-cost.md: seconds are frames by speed, at least the decoder's; dollars are seconds by price."""
    text = (ROOT / "docs" / "11-cost.md").read_text()
    prices = dict(re.findall(r"^\| (\w+) \|[^|]*\|[^|]*\| (0\.\d+) \|", text, re.M))
    numbers = r" (\d+) \| (\d+) \| ([\d.]+) \| ([\d.]+) \| (0\.\d+) \| (0\.\d+) \|$"
    rows = re.findall(r"^\| [^|]+ \| (\w+) \|" + numbers, text, re.M)
    assert len(rows) == 5
    for pool, *speeds_seconds_dollars in rows:
        numbers = [float(number) for number in speeds_seconds_dollars]
        for speed, seconds, dollars in zip(numbers[:2], numbers[2:4], numbers[4:], strict=True):
            expected = max(1800 / speed, 1800 / 150)
            assert seconds == pytest.approx(expected, abs=0.06)
            assert dollars == pytest.approx(expected * float(prices[pool]), abs=0.00006)
