"""Whatever bytes come over a connection, the endpoint answers with a 4xx at worst, soon, and goes on."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.ops.endpoint.conftest import SETTINGS, WORKER_KEY, Running, running

pytestmark = pytest.mark.anyio


QUICK = SETTINGS.model_copy(update={"request_seconds": 0.1})
GOOD = b'{"input":{}}'


@pytest.fixture(scope="module")
async def endpoint(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One endpoint for all requests, which waits only briefly for them."""
    async with running(tmp_path_factory.mktemp("endpoint"), QUICK) as endpoint:
        endpoint.registry.queue.db.execute("PRAGMA synchronous = OFF")
        yield endpoint


def port(endpoint: Running) -> int:
    """Where it listens."""
    return int(endpoint.url.split(":")[2].split("/")[0])


async def exchange(endpoint: Running, request: bytes) -> bytes:
    """All that is answered to these bytes, until the endpoint closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port(endpoint))
    async with asyncio.timeout(30):
        writer.write(request)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def code(answer: bytes) -> int:
    """The status of an answer; 0 for a connection that was closed without one."""
    return int(answer.split(b" ")[1]) if answer else 0


def post(path: bytes, body: bytes, *headers: bytes) -> bytes:
    """A whole request."""
    lines = [
        b"POST /v2/local/" + path + b" HTTP/1.1",
        b"Host: h",
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join([*lines, b"", body])


def nested(levels: int) -> bytes:
    """A request with lists in lists."""
    return b'{"input":{"a":' + b"[" * levels + b"]" * levels + b"}}"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (post(b"run", nested(200)), 200),
        (post(b"run", nested(253)), 400),
        (post(b"run", nested(300)), 400),
        (post(b"run", nested(1_000_000)), 400),
        (post(b"run", b'{"a":' * 300 + b"1" + b"}" * 300), 400),
        (post(b"run", gzip.compress(GOOD), b"Content-Encoding: gzip"), 200),
        (post(b"run", b"no gzip", b"Content-Encoding: gzip"), 400),
        (post(b"run", gzip.compress(GOOD)[:12] + b"x" * 30, b"Content-Encoding: gzip"), 400),
        (post(b"run", b"\xff\xff", b"Content-Encoding: deflate"), 400),
        (post(b"run", zlib.compress(GOOD)[:-8], b"Content-Encoding: deflate"), 400),
        (post(b"run", b"xx", b"Content-Encoding: zstd"), 400),
        (post(b"run", b"xx", b"Content-Encoding: br"), 400),
        (post(b"run", gzip.compress(b"0" * 12_000_000), b"Content-Encoding: gzip"), 413),
        (post(b"run", b"\xff\xfe{"), 400),
        (post(b"run", b'{"input":{"a":"\\ud800"}}'), 400),
        (post(b"run", b'{"input":{"a":NaN}}'), 400),
        (post(b"run", b'{"input":{"a":' + b"9" * 5000 + b"}}"), 400),
        (post(b"run", b'{"input":{"a":' + b"9" * 300 + b"}}"), 200),
        (post(b"run", b'{"input":{},"input":{"a":1}}'), 200),
        (post(b"run", b'{"input":{},"webhook":"http://' + b"a" * 64 + b'.example/"}'), 400),
        (post(b"run", b'{"input":{},"webhook":"http://a..b/"}'), 400),
        (post(b"run", b'{"input":{},"webhook":"http://h:\xc2\xb2/"}'), 400),
        (post(b"runsync?wait=\xc2\xb2", GOOD), 400),
        (post(b"status/\xff", b""), 400),
        (post(b"status/%FF%00%ED%A0%80", b""), 404),
        (post(b"status/" + b"a" * 9000, b""), 400),
        (post(b"job-done/w/x", b"{}"), 401),
        (post(b"job-done/w/x", b"{}", b"Authorization: "), 401),
        (post(b"job-done/w/x", b"{}", b"Authorization: Bearer "), 401),
        (post(b"job-done/w/x", b"{}", b"Authorization: \xff\xfe"), 401),
        (post(b"job-done/w/x", b"{}", "Authorization: Bearer é".encode()), 401),
        (post(b"job-done/w/x", b"{}", b"Authorization: " + WORKER_KEY.encode()), 404),
    ],
    ids=range(32),
)
async def test_strange_request_is_answered(endpoint, request_, expected):
    """What cannot be taken is a 4xx; what merely looks odd is taken."""
    assert code(await exchange(endpoint, request_)) == expected


async def job_of_worker(endpoint: Running) -> str:
    """A job that worker "w" has taken; other tests may have left some in the queue."""
    job_id = await endpoint.run()
    while (await endpoint.take("w"))[1]["id"] != job_id:
        pass
    return job_id


@pytest.mark.parametrize("field", [b"output", b"error"])
async def test_deep_result_is_kept_as_a_failure(endpoint, field):
    """A worker's answer that cannot be written again fails its job at once; such progress does not."""
    job_id = await job_of_worker(endpoint)
    deep = b'"%b":%b%b' % (field, b"[" * 400, b"]" * 400)
    assert await endpoint.done("w", job_id, b'{"status":"IN_PROGRESS",' + deep + b"}") == 400
    assert (await endpoint.status(job_id))["status"] == "IN_PROGRESS"
    assert await endpoint.done("w", job_id, b"{" + deep + b"}") == 400
    status = await endpoint.status(job_id)
    assert (status["status"], status["output"]["error_code"]) == ("FAILED", "RESULT_INVALID")
    job_id = await job_of_worker(endpoint)
    assert await endpoint.done("w", job_id, b'{"status":"IN_PROGRESS","output":' + b"[" * 10**6) == 400


async def test_result_that_does_not_come_whole_fails_nothing(endpoint):
    """The worker is told so by 408, and the job waits for what it sends next."""
    job_id = await job_of_worker(endpoint)
    path, key = f"job-done/w/{job_id}".encode(), b"Authorization: " + WORKER_KEY.encode()
    assert code(await exchange(endpoint, post(path, b'{"output":1}', key).removesuffix(b"1}"))) == 408
    assert (await endpoint.status(job_id))["status"] == "IN_PROGRESS"
    assert await endpoint.done("w", job_id, {"output": 1}) == 200
    assert (await endpoint.status(job_id))["output"] == 1


async def test_key_beyond_ascii_lets_in(tmp_path):
    """It is compared byte for byte."""
    settings = QUICK.model_copy(update={"api_key": SecretStr("schlüssel")})
    async with running(tmp_path, settings) as endpoint:
        for key, expected in (("schlüssel", 200), ("schlussel", 401), ("", 401)):
            request = post(b"run", GOOD, f"Authorization: Bearer {key}".encode())
            assert code(await exchange(endpoint, request)) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"", 0),
        (b"GET /v2/lo", 0),
        (b"GET /v2/local/health HTTP/1.1\r\nHost: h\r\nX-Half: ", 0),
        (b"GET /v2/local/health HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        (b"GET /v2/local/health HTTP/1.1\r\nHost: h\r\n\r\nGET /v2/lo", 200),
        (b"POST /v2/local/run HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n{", 408),
        (b"POST /v2/local/run HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", 408),
    ],
    ids=["nothing", "half line", "half head", "idle", "half second head", "half body", "half chunk"],
)
async def test_unfinished_request_is_given_up(endpoint, sent, expected):
    """The connection is closed after `request_seconds`, and others are served meanwhile."""
    waiting = [asyncio.create_task(exchange(endpoint, sent)) for _ in range(3)]
    assert (await endpoint.ask("GET", "health"))[0] == 200
    assert [code(answer) for answer in await asyncio.gather(*waiting)] == [expected] * 3


METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"PRI"]) | st.binary(max_size=4)
TARGETS = st.sampled_from(
    b"/v2/local/run /v2/local/runsync?wait=1 /v2/local/job-done/w/x /v2/local/health /v2/local/purge-queue *"
    b" /v2/local/stream/%C3%A9 /v2/local/cancel/' /v2/local/retry/a%2Fb /v2/local/../run /v2/local/status/%00"
    b" /v2/local/status/\xff http://[::1 http://a:b/ //[/v2/local/health /v2/local/%zz".split(b" ")
) | st.binary(max_size=9).map(lambda tail: b"/v2/local/status/" + tail)
NAMES = st.sampled_from(
    b"Authorization Content-Encoding Content-Type Transfer-Encoding Expect Origin"
    b" Connection Upgrade Cookie Host Range".split()
)
VALUES = st.sampled_from(
    [
        *(WORKER_KEY.encode(), b"\xff\xfe", b"text/plain; charset=\xff", b"multipart/form-data"),
        *b"gzip deflate br chunked identity 100-continue websocket close keep-alive [".split(),
    ]
) | st.binary(max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "input": JSON,
        "webhook": JSON | st.sampled_from(["http://a/b", "http://[", "http://a:b/", "ftp://a/b"]),
        "policy": JSON
        | st.fixed_dictionaries({}, optional={"ttl": JSON, "executionTimeout": JSON, "lowPriority": JSON}),
        "id": JSON,
    },
)
BODIES = (
    REQUEST.map(lambda body: json.dumps(body).encode())
    | st.sampled_from([GOOD, nested(300), gzip.compress(GOOD), b"3\r\n{}\n\r\n0\r\n\r\n"])
    | st.binary(max_size=9)
)


@hypothesis_settings(max_examples=250, deadline=None)
@given(method=METHODS, target=TARGETS, headers=st.lists(st.tuples(NAMES, VALUES), max_size=3), body=BODIES)
async def test_any_bytes_are_no_server_error(endpoint, method, target, headers, body):
    """Any request line, headers and body: an answer below 500 that says why, or a closed connection."""
    lines = [method + b" " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers)]
    request = b"\r\n".join([*lines, b"Connection: close", b"Content-Length: %d" % len(body), b"", body])
    answer = await exchange(endpoint, request)
    assert code(answer) < 500, answer
    head, _, document = answer.partition(b"\r\n\r\n")
    if b"application/json" in head and method != b"HEAD" and code(answer) >= 400:
        assert set(json.loads(document)) == {"error"}
