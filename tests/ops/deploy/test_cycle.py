"""The life of an endpoint, from the first plan to its end, as an operator goes through it."""

import pytest

from tests.ops.deploy.conftest import IMAGE, LOCAL_SECRET

FINE, FAILED, CHANGES = 0, 1, 2
POOLS = ["ADA_24", "AMPERE_24"]
ENVIRONMENT = {
    "MODELS": "lite",
    "WORKER_TIME_BUDGET_SECONDS": "600",
    "BUCKET_NAME": LOCAL_SECRET,
    "BUCKET_SECRET_ACCESS_KEY": "{{ RUNPOD_SECRET_bucket }}",
}


def test_endpoint_goes_from_plan_to_apply_to_drift_to_destroy(operator, rest):
    """Plan finds all there is to do, apply does it, then there is nothing; drift is undone; it ends."""
    code, text = operator("plan")
    assert (code, rest.writes()) == (FINE, [])
    assert "to be created" in text
    code, text = operator("apply")
    assert code == FINE
    assert "https://api.runpod.ai/v2/ep000001/run" in text
    created = rest.only()
    assert created["timeout"] == 900_000
    assert created["flashboot"] == "FLASHBOOT"
    assert created["env"] == ENVIRONMENT
    assert rest.agents == {"hmr2-phalp-worker-deploy/1"}, "RunPod blocks the default agents of HTTP libraries"
    code, text = operator("plan", "--exit-code")
    assert (code, "nothing to change" in text) == (FINE, True)
    rest.requests.clear()
    assert operator("apply")[0] == FINE
    assert rest.writes() == []
    created["workers"] = {"min": 2, "max": 3}
    created["env"] = {**created["env"], "ADDED_BY_HAND": "something-private"}
    code, text = operator("plan", "--exit-code")
    assert code == CHANGES
    assert "workers.min  2 → 0" in text
    assert "env.ADDED_BY_HAND  [hidden] → none" in text
    assert operator("apply")[0] == FINE
    assert rest.only()["workers"] == {"min": 0, "max": 3}
    assert "ADDED_BY_HAND" not in rest.only()["env"]
    assert operator("plan", "--exit-code")[0] == FINE
    assert operator("destroy", "people", "--yes")[0] == FINE
    assert rest.endpoints == {}
    code, text = operator("destroy", "people", "--yes")
    assert (code, "no endpoint called people" in text) == (FINE, True)


CHANGES_OF_ENDPOINT = [
    ({"workers": {"max": 7}}, {"workers": {"min": 0, "max": 7}}),  # as a whole
    ({"env": {"MODELS": "auto"}}, {"env": ENVIRONMENT | {"MODELS": "auto"}}),  # as a whole
    ({"timeout": 60_000}, {"timeout": 60_000}),
    ({"gpu": {"pools": ["AMPERE_24"]}}, {"gpu": {"pools": ["AMPERE_24"], "excludedTypes": []}}),
    ({"gpu": {"excludedTypes": ["NVIDIA L4"]}}, {"gpu": {"pools": POOLS, "excludedTypes": ["NVIDIA L4"]}}),
    ({"gpu": {"minCudaVersion": None}}, {"gpu": {"minCudaVersion": ""}}),
    (
        {"gpu": {"minCudaVersion": None, "allowedCudaVersions": ["12.8"]}},
        {"gpu": {"minCudaVersion": "", "allowedCudaVersions": ["12.8"]}},
    ),
    ({"gpu": {"count": 2}}, {"gpu": {"count": 2}}),  # leaves the pools alone
]


@pytest.mark.parametrize(("change", "body"), CHANGES_OF_ENDPOINT, ids=range(8))
def test_apply_sends_only_what_changed(operator, rest, change, body):
    """A PATCH holds the changed fields, whole where RunPod replaces them, and nothing else."""
    operator("apply")
    rest.requests.clear()
    operator.edit(lambda content: content["profiles"].update(changed=change))
    assert operator("apply", "--profile", "changed")[0] == FINE
    assert rest.writes() == [("PATCH /v2/serverless/ep000001", body)]
    assert operator("plan", "--profile", "changed", "--exit-code")[0] == FINE


def test_args_ports_and_registry_stay_when_the_file_does_not_name_them(operator, rest):
    """What deploy.yaml leaves out of these is RunPod's own or another tool's, and no drift."""
    operator("apply")
    rest.only().update(args="--verbose", ports=["8000/http"], registry="reg_1")
    assert operator("plan", "--exit-code")[0] == FINE
    operator.edit(lambda content: content["endpoint"].update(args=""))
    assert operator("apply")[0] == FINE
    assert (rest.only()["args"], rest.only()["registry"]) == ("", "reg_1")


def test_status_shows_what_runs(operator, rest):
    """Image, workers, release and addresses; 1 where there is no endpoint."""
    code, text = operator("status")
    assert (code, "no endpoint called people" in text) == (FAILED, True)
    operator("apply")
    code, text = operator("status")
    assert code == FINE
    for part in (IMAGE, "1 running, 0 idle", "0 to 3", "release  1, on all workers", "/v2/ep000001/run"):
        assert part in text


def test_destroy_needs_the_name_and_a_yes(operator, rest):
    """Neither alone removes anything."""
    operator("apply")
    for words in (["people"], ["peopel", "--yes"], []):
        assert operator("destroy", *words)[0] == FAILED
    assert list(rest.endpoints) == ["ep000001"]


def test_two_endpoints_of_one_name_stop_every_command(operator, rest):
    """Names are not unique on RunPod: with two matches nothing is changed, and both ids are named."""
    operator("apply")
    rest.endpoints["ep777777"] = {**rest.only(), "id": "ep777777"}
    rest.requests.clear()
    for words in (["plan"], ["apply"], ["status"], ["destroy", "people", "--yes"]):
        code, text = operator(*words)
        assert code == FAILED
        assert "ep000001, ep777777" in text
    assert rest.writes() == []


def test_a_similar_name_is_another_endpoint(operator, rest):
    """Only the exact name counts, but for the mark that older clients append for FlashBoot."""
    operator("apply")
    other = {**rest.only(), "id": "ep777777"}
    for name in ("People", "people2", "peopl", "people "):
        rest.endpoints["ep777777"] = {**other, "name": name}
        assert operator("plan", "--exit-code")[0] == FINE
    for name in ("people-fb", "people -fb"):
        rest.endpoints["ep777777"] = {**other, "name": name}
        assert operator("plan")[0] == FAILED


def test_endpoint_on_cpus_cannot_become_ours(operator, rest):
    """RunPod never changes an endpoint's compute family; that is said before anything is written."""
    operator("apply")
    rest.only().pop("gpu")
    rest.only()["cpu"] = [{"id": "cpu5c", "vcpuCount": 4, "memory": 16}]
    rest.requests.clear()
    code, text = operator("apply")
    assert (code, rest.writes()) == (FAILED, [])
    assert "no QUEUE endpoint on GPUs" in text


WRONG_CARDS = {
    "RunPod has no ADA_42; it has ADA_24, AMPERE_24": {"pools": ["ADA_42"]},
    "not in these pools: NVIDIA L4": {"pools": ["ADA_24"], "excludedTypes": ["NVIDIA L4"]},
    "leaves no card": {"pools": ["ADA_24"], "excludedTypes": ["NVIDIA GeForce RTX 4090"]},
}


@pytest.mark.parametrize(("said", "gpu"), WRONG_CARDS.items(), ids=range(3))
def test_pools_are_checked_against_the_catalogue(operator, rest, said, gpu):
    """A misspelt pool is found before anything is written."""
    operator.edit(lambda content: content["endpoint"].update(gpu=gpu))
    code, text = operator("apply")
    assert (code, rest.writes()) == (FAILED, [])
    assert said in text
