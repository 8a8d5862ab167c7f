"""Hundreds of wrong requests through the real stages: each reply has a code, and none is a bug."""

import json
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handler.errors import ErrorCode
from handler.handler import Handler
from tests.handler.rig import Rig

HOSTS = st.sampled_from(
    ["127.0.0.1:1", "localhost", "[::1]", "0x7f.1", "169.254.169.254", "example.com", "例え.jp", "a..b"]
) | st.just("user:pa55word99@h")
PATHS = st.text(max_size=12) | st.sampled_from(["/../..", "/%00", "/clip.mp4?X-Amz-Signature=abc", "/\ud800"])
URLS = (
    st.text(max_size=30)
    | st.sampled_from(["file:///etc/passwd", "https://", "http://[", "data:,x", "//h/x", "http:/x", "\x00"])
    | st.builds("{}://{}{}".format, st.sampled_from(["http", "https", "HTTPS", "ftp", "s3"]), HOSTS, PATHS)
)
NAMES = st.text(max_size=20) | st.sampled_from(["../up", "/etc", "a//b", "a/../../b", "results", "x" * 600])
OUTPUTS = st.fixed_dictionaries({}, optional={"bucket": NAMES, "prefix": NAMES}) | st.fixed_dictionaries(
    {"put_urls": st.fixed_dictionaries({"result.json": URLS, "frames.jsonl.gz": URLS})}
)
NUMBERS = st.integers(3, 60) | st.integers(-2, 10**7) | st.floats() | st.none() | st.text(max_size=3)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("start_s", "end_s", "stride", "max_people"), NUMBERS),
        "profile": st.sampled_from(["params", "full", "tiny"]),
        "person": st.fixed_dictionaries({"point": st.lists(NUMBERS, max_size=3)}),
        "camera": st.fixed_dictionaries({"fx": NUMBERS}),
        "tracking": st.fixed_dictionaries({"phalp.n_init": NUMBERS}),
    },
)
REQUESTS = st.fixed_dictionaries({"video_url": URLS}, optional={"output": OUTPUTS, "options": OPTIONS})
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
NAMED = "video_url output options bucket put_urls start_s person camera fx tracking"
FIELDS = st.sampled_from(NAMED.split())
NESTED = JSON_VALUES | st.dictionaries(FIELDS, JSON_VALUES, max_size=4)
MISPLACED = st.dictionaries(FIELDS, NESTED, max_size=4)


@pytest.fixture
def handler(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Handler:
    """A worker that asks no name server."""
    real = socket.getaddrinfo

    def answer(host: str, *arguments: Any, **more: Any) -> list[Any]:
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    rig.intake = {"allow_private_addresses": False, "download_attempts": 1}
    return rig.handler()


@pytest.mark.usefixtures("unchecked_types")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(job_input=REQUESTS | JSON_VALUES | MISPLACED, job_id=st.text(max_size=10))
def test_any_request_gets_a_coded_reply(rig: Rig, handler: Handler, job_input: object, job_id: str) -> None:
    """Whatever comes as an input, the reply says what is wrong with it, in strict JSON."""
    reply = rig.run({"id": job_id, "input": job_input}, handler)

    assert reply["error_code"] in set(ErrorCode)
    assert reply["error_code"] != "INTERNAL", reply
    json.dumps(reply, allow_nan=False, ensure_ascii=False).encode()
    assert "pa55word99" not in json.dumps(reply) + rig.log.getvalue()
