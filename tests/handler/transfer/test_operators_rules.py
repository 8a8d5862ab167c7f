"""What an operator's own URLs may do, and a stranger's may not."""

import pytest

from handler.context import unstoppable
from handler.transfer.addresses import AddressRefused, check_url
from handler.transfer.download import Patience, download
from handler.transfer.http import HttpFile
from handler.transfer.partial import PartialFile
from ops.weights.obtain import operator_rules
from ops.weights.settings import WeightSettings
from tests.handler.transfer.failures import DATA, settings
from tests.http_source import Fault, http_source
from tests.raw_server import raw_server

RULES = operator_rules(WeightSettings(allow_http=True, connect_seconds=5, read_seconds=1))
WHOLE = b"HTTP/1.1 200 x\r\nContent-Length: 3\r\n\r\nabc"


def fetched(url, folder, *, attempts=1, **more) -> bytes:
    """What comes from a URL."""
    file = HttpFile(check_url(url, RULES), RULES, check=unstoppable, takes_encoded=True, **more)
    with PartialFile(folder / "f", reserve_bytes=0) as partial:
        patience = Patience(attempts=attempts, min_bytes_per_second=0, first_wait_seconds=0)
        download(file.open_at, partial, patience, check=unstoppable)
    return (folder / "f").read_bytes()


def test_password_in_the_url_is_sent_to_its_host_alone(server, tmp_path):
    """As Basic authorization; a redirect elsewhere does not get it, and strangers may not write one."""
    with http_source() as elsewhere:
        moved = elsewhere.add("f", DATA)
        url = server.add("f", b"", always=Fault(redirect=moved)).replace("//", "//me:p%40ss@")
        assert fetched(url, tmp_path) == DATA
        assert server.requests[0].headers["authorization"] == "Basic bWU6cEBzcw=="
        assert "authorization" not in elsewhere.requests[0].headers
    with pytest.raises(AddressRefused):
        check_url(url, settings())


def test_any_address_is_reached(server, tmp_path, hosts):
    """Also one that no job's URL may lead to: the check is for strangers."""
    hosts["weights.example"] = ["127.0.0.1"]
    server.add("f", DATA)
    assert fetched(server.url("f", host="weights.example"), tmp_path) == DATA
    assert check_url("http://100.64.0.1:9/f", RULES)


def test_redirect_to_http_is_followed_where_http_is_allowed(server, tmp_path):
    """Inside a private network a mirror may be plain."""
    with http_source(tls=True) as secure:
        url = secure.add("f", b"", always=Fault(redirect=server.add("f", DATA)))
        assert fetched(url, tmp_path, ssl_context=secure.ssl_context) == DATA


def test_proxy_of_the_environment_is_used(tmp_path, monkeypatch):
    """An operator's machine may reach the internet through a proxy alone; NO_PROXY is heeded."""
    with raw_server(WHOLE, WHOLE) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.1:{proxy.port}")
        assert fetched("http://weights.example/f", tmp_path) == b"abc"
        assert proxy.requests[0].startswith(b"GET http://weights.example/f ")
        assert b"Proxy-Authorization: Basic bWU6d29yZA==" in proxy.requests[0]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert fetched(proxy.url, tmp_path) == b"abc"
        assert proxy.requests[1].startswith(b"GET / ")


def test_body_that_is_called_compressed_is_kept_as_it_is(server, tmp_path):
    """Some servers call a .tar.gz a tar with the content coding gzip."""
    url = server.add("f", DATA, always=Fault(headers={"Content-Encoding": "gzip"}))
    assert fetched(url, tmp_path) == DATA


def test_time_of_the_last_change_is_a_version(server, tmp_path):
    """Where there is no tag, the rest is asked for by date, and another date means another file."""
    old = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    new = {"Last-Modified": "Tue, 02 Jan 2024 00:00:00 GMT"}
    rest = Fault(etag="", headers=old, ignore_if_range=True)
    url = server.add("f", DATA, Fault(etag="", headers=old, cut_after=1000), rest)
    assert fetched(url, tmp_path, attempts=2) == DATA
    asked = server.requests[1].headers
    assert (asked["range"], asked["if-range"]) == ("bytes=1000-", old["Last-Modified"])
    other = Fault(etag="", headers=new, ignore_if_range=True, data=DATA[::-1])
    url = server.add("g", DATA, Fault(etag="", headers=old, cut_after=1000), other, always=other)
    assert fetched(url, tmp_path, attempts=3) == DATA[::-1]
