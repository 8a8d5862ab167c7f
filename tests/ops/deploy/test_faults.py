"""RunPod refuses, stumbles or falls silent; runs are cut off; and what is secret stays so."""

import pytest

from ops.deploy.api import ApiError, retry_after
from ops.deploy.settings import DeploySettings
from tests.ops.deploy.conftest import LOCAL_SECRET, TRIES
from tests.ops.deploy.fake_rest import KEY, Fault

FINE, FAILED, CHANGES = 0, 1, 2


KEYS = {
    "RUNPOD_API_KEY=rpa_WRONG_9876543210": "401 Unauthorized: invalid bearer token\n  check RUNPOD_API_KEY",
    "RUNPOD_API_KEY=": "RUNPOD_API_KEY is not set",
    "RUNPOD_API_KEY=rpa_WRONG_schlüssel": "RUNPOD_API_KEY holds characters that are in no key",
    "RUNPOD_API_KEY=rpa_WRONG_\udcff": "RUNPOD_API_KEY holds characters that are in no key",
    "RUNPOD_API_KEY=rpa_WRONG two\n": "RUNPOD_API_KEY holds characters that are in no key",
    "RUNPOD_DEPLOY_URL=http://api.runpod.io/v2": "RUNPOD_DEPLOY_URL must be https",
}


@pytest.mark.parametrize(("setting", "said"), KEYS.items(), ids=range(len(KEYS)))
def test_key_that_cannot_be_used_is_said_plainly(operator, rest, monkeypatch, setting, said):
    """A wrong one is tried once; without one, or to an address without TLS, nothing goes out."""
    monkeypatch.setenv(*setting.split("=", 1))
    code, text = operator("apply")
    assert (code, len(rest.requests)) == (FAILED, said.startswith("401"))
    assert said in text
    assert "WRONG" not in text


def test_validation_errors_are_shown_one_by_one(operator, rest):
    """422: the problem document's list is printed, and nothing is tried again."""
    rest.faults = [Fault(on="POST", status=422, errors=("$.disk: must be at most 100",))]
    code, text = operator("apply")
    assert (code, len(rest.writes())) == (FAILED, 1)
    assert "422 Unprocessable Entity: made to fail\n  $.disk: must be at most 100\n" in text


@pytest.mark.parametrize("on", ["GET /v2/serverless$", "POST", "GET /v2/catalog"])
def test_too_many_requests_are_tried_again(operator, rest, on):
    """429 is a refusal, so even a POST may be sent again."""
    rest.faults = [Fault(on=on, status=429, headers={"Retry-After": "1"}) for _ in range(TRIES - 1)]
    assert operator("apply")[0] == FINE
    assert len(rest.endpoints) == 1
    assert rest.faults == []


SPENT = '"minute";r=12;t=3, "hour";r=0;t=1812, "day";r=0;t=900'
QUOTAS = [
    ({"RateLimit": SPENT}, FAILED),
    *(({"Retry-After": text}, CHANGES) for text in ("²", "9" * 5000, "-1")),
]


@pytest.mark.parametrize(("headers", "expected"), QUOTAS, ids=range(4))
def test_a_quota_that_is_spent_for_long_fails_at_once(operator, rest, headers, expected):
    """Waiting an hour is the operator's decision: the time is said. What is no number is not heeded."""
    rest.faults = [Fault(on="GET /v2/serverless$", status=429, headers=headers)]
    code, text = operator("plan", "--exit-code")
    assert (code, rest.faults) == (expected, [])
    assert ("the quota is free again in 1812 s" in text) == (expected == FAILED)


@pytest.mark.parametrize(("seconds", "expected"), [(12, 12), (0, 0.1), (60, 60), (61, False), (None, True)])
def test_retries_wait_as_long_as_runpod_asks(seconds, expected):
    """429 by the header's seconds up to the limit; no retry after a mistake of the program."""
    decide = retry_after(DeploySettings(), repeatable=False)
    assert decide(ApiError("", status=429, wait_seconds=seconds)) == expected
    assert not retry_after(DeploySettings(), repeatable=True)(KeyError())


@pytest.mark.parametrize("status", [500, 502, None], ids=str)
def test_errors_of_the_server_are_tried_again_in_bounds(operator, rest, status):
    """A stumbling API is asked again, an API that is down is given up."""
    rest.faults = [Fault(on="GET /v2/serverless$", status=status) for _ in range(TRIES - 1)]
    assert operator("plan", "--exit-code")[0] == CHANGES
    rest.faults = [Fault(on="GET /v2/serverless$", status=status) for _ in range(TRIES + 3)]
    code, text = operator("plan")
    assert code == FAILED
    assert len(rest.faults) == 3
    assert ("RunPod did not answer" if status is None else str(status)) in text


STRANGE = {
    b"<html>gateway</html>": "RunPod answered GET /serverless with something that is not a JSON object",
    b"[]": "RunPod answered GET /serverless with something that is not a JSON object",
    b"{}": "RunPod's answer is not what its API describes; see endpoints in it\n",
    b'{"endpoints": [{"id": "a"}]}': "not what its API describes; see endpoints.0.name in it\n",
}


@pytest.mark.parametrize(("body", "said"), STRANGE.items(), ids=range(len(STRANGE)))
def test_an_answer_of_another_shape_is_an_error(operator, rest, body, said):
    """What the API does not describe is never taken for "no endpoints"."""
    rest.faults = [Fault(on="GET /v2/serverless$", status=200, body=body) for _ in range(TRIES)]
    code, text = operator("apply")
    assert (code, rest.writes()) == (FAILED, [])
    assert said in text


@pytest.mark.parametrize("status", [500, None], ids=["error", "connection-lost"])
@pytest.mark.parametrize("done", [True, False], ids=["done", "not-done"])
def test_a_create_whose_answer_got_lost_makes_one_endpoint(operator, rest, status, done):
    """Before it is sent again, the list is looked at: never two endpoints of one name."""
    rest.faults = [Fault(on="POST", status=status, done=done)]
    assert operator("apply")[0] == FINE
    assert len(rest.endpoints) == 1
    assert len(rest.writes()) == (1 if done else 2)
    assert operator("plan", "--exit-code")[0] == FINE


def test_another_run_at_the_same_time_is_noticed(operator, rest, monkeypatch):
    """Two runs may both find nothing and both create: the later look finds two and says so."""
    answer = rest.answer

    def twice(method, path, body):
        if method == "POST":
            answer(method, path, body)
        return answer(method, path, body)

    monkeypatch.setattr(rest, "answer", twice)
    code, text = operator("apply")
    assert code == FAILED
    assert "2 endpoints are called people (ep000001, ep000002)" in text


def test_a_run_cut_off_after_create_is_finished_by_the_next(operator, rest):
    """Created, then silence: the next run creates nothing, and still looks at the release."""
    rest.faults = [Fault(on="GET .*/releases", status=None) for _ in range(TRIES)]
    assert operator("apply")[0] == FAILED
    assert len(rest.endpoints) == 1
    rest.requests.clear()
    assert operator("apply")[0] == FINE
    assert rest.writes() == []
    assert any(what.endswith("/releases") for what, _ in rest.requests)


def test_apply_waits_until_all_workers_run_the_release(operator, rest):
    """One line per state, not per look; right after the change "the newest" is still the release before."""
    operator("apply")
    rest.late_looks, rest.stale_looks = 2, 3
    image = "registry.example.com/you/worker:0.2.0"
    code, text = operator("apply", "--image", image)  # comes before the file's
    assert (code, rest.only()["image"]) == (FINE, image)
    assert text.count("waiting: the new release is not listed yet") == 1
    assert text.count("waiting: 1 of 2 workers run release 2") == 1
    looks = [what for what, _ in rest.requests if what.endswith("/releases")]
    assert len(looks) == 1 + 1 + 6  # first apply, the version before, two late, three stale, one done


def test_the_wait_for_a_release_ends(operator, rest, monkeypatch):
    """Workers at long jobs: the wait is bounded, what was written stays, a later run finds it done."""
    operator("apply")
    monkeypatch.setenv("RUNPOD_DEPLOY_RELEASE_SECONDS", "0.05")
    rest.stale_looks = None
    operator.edit(lambda content: content["endpoint"]["env"].update(MODELS="auto"))
    code, text = operator("apply")
    assert code == FAILED
    assert "everything is written, but 1 of 2 workers run release 2" in text
    assert operator("plan", "--exit-code")[0] == FINE
    assert operator("apply")[0] == FAILED
    assert operator("apply", "--no-wait")[0] == FINE
    rest.looks_left = 0
    assert operator("apply")[0] == FINE


def test_scaling_does_not_wait_for_a_release(operator, rest):
    """A change of scaling replaces no worker, so no newer version is expected."""
    operator("apply")
    assert operator("apply", "--profile", "busy")[0] == FINE
    assert rest.versions == {"ep000001": 1}


def test_a_field_that_runpod_does_not_take_is_an_error(operator, rest):
    """Every write is read back: accepted and ignored is not applied."""
    operator("apply")
    rest.forget = {"timeout"}
    operator.edit(lambda content: content["endpoint"].update(timeout=60_000))
    code, text = operator("apply")
    assert code == FAILED
    assert "keeps other values of: timeout" in text


@pytest.mark.parametrize("status", [204, 500])
def test_removal_is_looked_after(operator, rest, status):
    """Answered but still listed is an error; done but with its answer lost is what was wanted."""
    operator("apply")
    rest.faults = [Fault(on="DELETE", status=status, body=b"", done=status == 500)]
    code, text = operator("destroy", "people", "--yes")
    assert (code, "still lists it" in text) == ((FAILED, True) if status == 204 else (FINE, False))
    assert bool(rest.endpoints) == (status == 204)


def test_a_key_without_the_catalogue_can_still_deploy(operator, rest):
    """403 there is a restricted key; RunPod checks the pools itself."""
    rest.faults = [Fault(on="catalog", status=403)]
    assert operator("plan", "--exit-code")[0] == CHANGES


def test_no_secret_is_ever_printed(operator, rest):
    """Neither the key, nor values of the shell, nor what others put on RunPod, nor their echo in errors."""
    theirs = "value-set-in-the-console"
    ours = (KEY, LOCAL_SECRET, theirs)
    operator("plan")
    operator("apply")
    names = ("BUCKET_NAME", "BUCKET_SECRET_ACCESS_KEY", "SOMETHING", "API_TOKEN")
    rest.only()["env"] = {"MODELS": "lite", **dict.fromkeys(names, theirs)}
    operator("plan")
    rest.faults = [
        Fault(on="PATCH", status=422, errors=(f'env: "{LOCAL_SECRET}" of {KEY} is not right',)),
        Fault(on="GET .*/releases", status=500),  # one retry with its log line
    ]
    assert operator("apply")[0] == FAILED
    rest.faults = [Fault(on="GET", status=500, body=f'{{"detail": "{KEY} {LOCAL_SECRET}"}}'.encode())] * 9
    operator("apply")
    operator("status")
    rest.faults = []
    operator("apply")
    operator("destroy", "people", "--yes")
    everything = "\n".join(operator.output)
    assert [secret for secret in ours if secret in everything] == []
    assert "env.BUCKET_NAME  [hidden] → [hidden]" in everything
    assert "{{ RUNPOD_SECRET_bucket }}" in everything  # a reference is no secret
