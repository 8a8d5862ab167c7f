"""What callers get for requests that are not as they should be: a 4xx that says why, never a 500."""

import io
from typing import Any

import pytest
from pydantic import SecretStr

from ops.endpoint.settings import LocalIntakeSettings
from tests.ops.endpoint.conftest import SETTINGS, running

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({}, "input is missing"),
        ({"input": None}, "input must be an object"),
        ({"input": "https://bucket/v.mp4?X-Amz-Signature=t0ps3cret"}, "input must be an object"),
        ({"input": [1]}, "input must be an object"),
        ([], "not a JSON object"),
        ({"input": {}, "webhook": "ftp://a/b"}, "webhook: "),
        ({"input": {}, "webhook": "http://"}, "webhook: "),
        ({"input": {}, "webhook": 7}, "webhook must be text"),
        (
            {"input": {}, "policy": {"executionTimeout": 4999}},
            "policy.executionTimeout must be at least 5000",
        ),
        (
            {"input": {}, "policy": {"executionTimeout": "5000"}},
            "policy.executionTimeout must be a whole number",
        ),
        ({"input": {}, "policy": {"ttl": 9999}}, "policy.ttl must be at least 10000"),
        ({"input": {}, "policy": {"ttl": 604_800_001}}, "policy.ttl must be at most 604800000"),
        ({"input": {}, "policy": 1}, "policy must be an object"),
    ],
    ids=str,
)
async def test_bad_request_is_refused_in_words(endpoint, request_, says):
    """400, the field and the reason, never the value; nothing is queued."""
    for path in ("run", "runsync"):
        code, document = await endpoint.ask("POST", path, json=request_)
        assert (code, set(document)) == (400, {"error"})
        assert says in document["error"]
        assert "t0ps3cret" not in document["error"]
    assert endpoint.registry.queue.counts()["inQueue"] == 0


@pytest.mark.parametrize(("path", "limit"), [("run", 10_000_000), ("runsync", 20_000_000)])
async def test_request_is_limited_to_its_size(endpoint, path, limit):
    """RunPod's limits, told with 413; just below is accepted. A body without a length is counted."""
    body = b'{"input":{"x":"' + b"x" * limit + b'"}}'

    async def in_parts() -> Any:
        for start in range(0, len(body), 1 << 20):
            yield body[start : start + (1 << 20)]

    for data in (io.BytesIO(body), in_parts()):
        code, document = await endpoint.ask("POST", path, data=data)
        assert code == 413
        assert str(limit) in document["error"]
    body = b'{"input":{"x":"' + b"x" * (limit - 20) + b'"}}'
    code, document = await endpoint.ask("POST", f"{path}?wait=1000", data=io.BytesIO(body))
    assert (code, document["status"]) == (200, "IN_QUEUE")


@pytest.mark.parametrize("wait", ["0", "999", "300001", "-1", "x", "1e4", "", "٣٠٠٠", "9" * 5000])
async def test_wait_must_be_a_sensible_number(endpoint, wait):
    """1,000 to 300,000 milliseconds."""
    code, document = await endpoint.ask("POST", "runsync", json={"input": {}}, params={"wait": wait})
    assert (code, "wait must be" in document["error"]) == (400, True)


async def test_what_cannot_be_asked_for_is_told(endpoint):
    """409 says which state a job is in; an unknown one is a 404; all in JSON."""
    job_id = await endpoint.run()
    code, document = await endpoint.ask("POST", f"retry/{job_id}")
    assert (code, "IN_QUEUE" in document["error"]) == (409, True)
    for method, path, expected in (
        *(
            ("POST", path, 404)
            for path in ("retry/x", "cancel/x", "status/x", "stream/x", "nothing", "status/")
        ),
        *((method, "run", 405) for method in ("GET", "PUT")),
    ):
        code, document = await endpoint.ask(method, path)
        assert (code, set(document)) == (expected, {"error"})


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_stream_tells_the_state_and_has_no_parts(endpoint, method):
    """As on RunPod for a handler that yields nothing; its client library polls here until the job ends."""
    job_id = await endpoint.run_and_take()
    assert await endpoint.ask(method, f"stream/{job_id}") == (200, {"status": "IN_PROGRESS", "stream": []})
    await endpoint.done("w", job_id, {"output": 1})
    assert await endpoint.ask(method, f"stream/{job_id}") == (200, {"status": "COMPLETED", "stream": []})


async def test_closing_endpoint_takes_no_jobs(endpoint):
    """503, so that the caller tries again."""
    endpoint.registry.close()
    assert (await endpoint.ask("POST", "run", json={"input": {}}))[0] == 503
    assert await endpoint.take("w") == (204, None)


@pytest.mark.parametrize(
    ("webhook", "private", "says"),
    [
        ("http://127.0.0.1/x", False, "not public"),
        ("http://[::1]:80/x", False, "not public"),
        ("http://10.1.2.3/x", False, "not public"),
        ("http://169.254.169.254/latest", True, "not public"),
        ("http://user:s3cret@a.example/", True, "user name"),
        ("http://a.example/" + "s3cret" * 2000, True, "longer than"),
        ("http://" + "a" * 64 + ".example/", True, "host name"),
        ("http://127.0.0.1/x", True, None),
        ("http://10.1.2.3/x", True, None),
        ("http://a.example:8080/x", False, None),
    ],
    ids=range(10),
)
async def test_webhook_may_be_what_a_video_may_be(tmp_path, webhook, private, says):
    """What is plain in the URL is refused at once; names are looked up when it is called."""
    intake = LocalIntakeSettings(allow_private_addresses=private)
    async with running(tmp_path, intake=intake) as endpoint:
        code, document = await endpoint.ask("POST", "run", json={"input": {}, "webhook": webhook})
        assert code == (400 if says else 200)
        if says:
            assert document["error"].startswith("webhook: ")
            assert says in document["error"]
            assert "s3cret" not in document["error"]


async def test_web_page_cannot_use_an_endpoint_without_a_key(tmp_path):
    """A page open in a browser on this machine can reach loopback; with a key it would have to know it."""
    headers = {"Origin": "https://evil.example"}
    async with running(tmp_path) as endpoint:
        code, _ = await endpoint.ask("POST", "run", data=b'{"input":{}}', headers=headers)
        assert code == 403
        assert endpoint.registry.queue.counts()["inQueue"] == 0
    async with running(tmp_path, SETTINGS.model_copy(update={"api_key": SecretStr("k")})) as endpoint:
        headers |= {"Authorization": "Bearer k"}
        assert (await endpoint.ask("POST", "run", data=b'{"input":{}}', headers=headers))[0] == 200
