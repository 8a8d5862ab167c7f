"""The shortest way from any endpoint to any other, by the rules of the fake account."""

import string

from hypothesis import given
from hypothesis import strategies as st

from ops.deploy.api import LiveEndpoint, parse
from ops.deploy.deploy_file import DeployFile
from ops.deploy.plan import make_plan
from tests.ops.deploy.fake_rest import CARDS, FakeRest

POOLS = sorted({pool for pool in CARDS.values() if pool})

names = st.text(string.ascii_uppercase, min_size=1, max_size=3)
some_ids = st.lists(st.sampled_from(["a", "b", "c"]), unique=True)


@st.composite
def endpoints(draw) -> dict:
    """The `endpoint` of a deploy.yaml that the schema accepts."""
    pools = draw(st.lists(st.sampled_from(POOLS), min_size=1, unique=True))
    cards = [card for card, pool in CARDS.items() if pool in pools]
    gpu = {"pools": pools, "excludedTypes": draw(st.lists(st.sampled_from(cards), unique=True))}
    gpu |= draw(
        st.sampled_from(
            [{}, {"minCudaVersion": "12.8"}, {"allowedCudaVersions": ["12.9", "12.8"]}, {"count": 2}]
        )
    )
    workers = {"min": draw(st.integers(0, 2)), "max": draw(st.integers(2, 5))}
    if draw(st.booleans()):
        scaling = {"type": "QUEUE_DELAY", "queueDelay": draw(st.sampled_from([0.5, 4, 30]))}
        workers |= draw(st.sampled_from([{}, {"idleTimeout": 60}]))
    else:
        scaling = {"type": "REQUEST_COUNT", "requestCount": draw(st.integers(1, 3))}
    optional = {"args": "--x", "registry": "reg", "ports": ["80/http"], "flashboot": "OFF", "disk": 20}
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    return {
        "name": "people",
        "gpu": gpu,
        "workers": workers,
        "scaling": scaling,
        "timeout": draw(st.sampled_from([60_000, 3_600_000])),
        "env": draw(st.dictionaries(names, st.text(max_size=3), max_size=3)),
        "dataCenterIds": draw(some_ids),
        "networkVolumes": draw(some_ids),
        **{name: optional[name] for name in chosen},
    }


def wanted(endpoint: dict) -> dict:
    """Its body."""
    model = DeployFile.model_validate({"endpoint": endpoint}).endpoint
    return model.body("a/b:1", model.env)


@given(before=endpoints(), after=endpoints())
def test_any_endpoint_becomes_any_other_in_one_patch(before, after):
    """Create, nothing left; change, nothing left; RunPod accepts both bodies; order alone is no change."""
    rest = FakeRest()
    first = make_plan(wanted(before), None)
    status, document = rest.answer("POST", "/v2/serverless", first.body)
    assert (status, first.endpoint_id) == (201, None)
    live = parse(LiveEndpoint, document)
    assert make_plan(wanted(before), live).changes == ()
    turned = {name: document[name][::-1] for name in ("dataCenterIds", "networkVolumes")}
    lists = ("pools", "excludedTypes", "allowedCudaVersions")
    turned["gpu"] = document["gpu"] | {name: document["gpu"].get(name, [])[::-1] for name in lists}
    assert make_plan(wanted(before), parse(LiveEndpoint, document | turned)).changes == ()
    second = make_plan(wanted(after), live)
    assert (second.body == {}) == (second.changes == ())
    status, document = rest.answer("PATCH", f"/v2/serverless/{second.endpoint_id}", second.body)
    assert status == 200
    assert make_plan(wanted(after), parse(LiveEndpoint, document)).changes == ()


def test_plan_hides_its_body():
    """A plan in a traceback or a log shows no environment."""
    endpoint = {
        "name": "people",
        "gpu": {"pools": POOLS},
        "scaling": {"type": "REQUEST_COUNT", "requestCount": 1},
        "timeout": 60_000,
    }
    body = wanted(endpoint) | {"env": {"BUCKET_SECRET_ACCESS_KEY": "hunter2", "PLACE": "hunter2"}}
    plan = make_plan(body, None, hidden={"PLACE"})
    assert "hunter2" not in repr(plan)
    assert plan.body["env"]["PLACE"] == "hunter2"
