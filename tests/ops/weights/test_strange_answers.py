"""Whatever a server of weight files answers, fetching gives bytes or one of its own errors."""

import contextlib

import httpx2
import pytest

from ops.weights.answers import Changed, SourceFailed, TryAgain
from ops.weights.http import ask_http, https_client
from ops.weights.settings import WeightSettings
from tests.raw_server import raw_server


@pytest.fixture(scope="module")
def client():
    """A client for all cases."""
    with https_client(WeightSettings()) as client:
        yield client


@pytest.mark.parametrize(
    "head",
    [
        "206 x\r\nContent-Range: bytes {}-2/3",
        "206 x\r\nContent-Range: bytes 0-2/{}",
        "200 x\r\nContent-Length: {}",
        "416 x\r\nContent-Range: bytes */{}",
        "302 x\r\nLocation: http://{}.example/",
        "302 x\r\nLocation: http://a..{}/",
        "302 x\r\nLocation: http://127.0.0.1:{}/",
    ],
)
@pytest.mark.parametrize("number", ["9" * 5000, "a" * 64, "²", "٣", "-1", ""])
def test_strange_headers_are_told(client: httpx2.Client, head: str, number: str) -> None:
    """Numbers of thousands of digits or other scripts, host names that cannot be looked up."""
    with (
        raw_server(b"HTTP/1.1 " + head.format(number).encode() + b"\r\n\r\nabc") as server,
        contextlib.suppress(Changed, SourceFailed, TryAgain),
        ask_http(client, server.url, allow_http=True)(0, None) as answer,
    ):
        assert answer.total in (None, 3)


def test_version_that_cannot_be_sent_back_is_none(client: httpx2.Client) -> None:
    """A header of a later request must be ASCII."""
    with (
        raw_server('HTTP/1.1 200 x\r\nContent-Length: 3\r\nETag: "é"\r\n\r\nabc'.encode()) as server,
        ask_http(client, server.url, allow_http=True)(0, None) as answer,
    ):
        assert (answer.version, b"".join(answer.chunks)) == (None, b"abc")
