"""What a download refuses: addresses, redirects, certificates, sizes, a full disk."""

import errno

import pytest

from handler.errors import InputError, SourceError, WorkerError
from handler.settings import IntakeSettings
from handler.source.download import download, local_source
from tests.handler.transfer.failures import DATA, failed, settings
from tests.http_source import Fault, http_source


@pytest.mark.parametrize(
    "fault", [Fault(), Fault(chunked=True), Fault(no_length=True)], ids=["declared", "chunked", "no length"]
)
def test_download_refuses_what_is_too_large(server, tmp_path, fault):
    """The limit holds for the announced length and for the bytes that come."""
    seen = []
    url = server.add("v", DATA, always=fault)

    error = failed(InputError, url, tmp_path, settings(max_bytes=100_000), report=lambda *a: seen.append(a))

    assert error.code == "VIDEO_TOO_LARGE"
    assert all(done <= 100_000 for done, _ in seen)
    assert fault.chunked or fault.no_length or seen == []


def test_download_refuses_what_the_disk_cannot_hold(server, tmp_path):
    """A file that would eat into the reserve is refused before its first byte."""
    url = server.add("v", DATA)
    limits = settings(reserve_disk_bytes=1000)

    error = failed(WorkerError, url, tmp_path, limits, free=lambda folder: len(DATA) + 999)

    assert (error.code, error.code.retryable, error.code.refresh_worker) == ("DISK_FULL", True, True)
    assert download(url, tmp_path, limits, free=lambda folder: len(DATA) + 1000).size_bytes == len(DATA)


def test_download_notices_a_disk_that_fills_up(server, tmp_path, monkeypatch):
    """The free space is looked at again while bytes of unknown number come in."""
    monkeypatch.setattr("handler.transfer.partial.DISK_CHECK_BYTES", 100_000)
    free = iter([10_000_000, 10_000_000, 10])
    url = server.add("v", DATA, Fault(chunked=True))

    limits = settings(reserve_disk_bytes=1000)
    assert failed(WorkerError, url, tmp_path, limits, free=lambda folder: next(free)).code == "DISK_FULL"


def test_download_translates_a_full_disk(server, tmp_path):
    """ENOSPC from the operating system is DISK_FULL, and what was written is removed."""
    (tmp_path / "video.part").symlink_to("/dev/full")

    assert failed(WorkerError, server.add("v", DATA), tmp_path, settings()).code == "DISK_FULL"


def test_download_lets_other_disk_errors_through(server, tmp_path):
    """An error of the disk that is not about space is not dressed up as one."""
    with pytest.raises(FileNotFoundError) as caught:
        download(server.add("v", DATA), tmp_path / "missing", settings())
    assert caught.value.errno == errno.ENOENT


def test_download_follows_redirects(server, tmp_path):
    """Redirects are followed, also relative ones, and the query of the first URL is not carried along."""
    end = server.add("end", DATA)
    server.add("middle", b"", always=Fault(redirect="/end?b=2"))
    url = server.add("start", b"", always=Fault(redirect=server.url("middle"))) + "?token=SECRET"

    assert download(url, tmp_path, settings()).path.read_bytes() == DATA
    assert [seen.path for seen in server.requests] == ["/start?token=SECRET", "/middle", "/end?b=2"]
    assert end


def test_download_limits_redirects(server, tmp_path):
    """A redirect circle ends after max_redirects."""
    url = server.add("v", b"", always=Fault(redirect="/v"))

    assert failed(InputError, url, tmp_path, settings(max_redirects=3)).code == "URL_NOT_ALLOWED"
    assert len(server.requests) == 4


def test_download_refuses_private_addresses_by_default(server, tmp_path):
    """Without allow_private_addresses the loopback server is not even asked."""
    url = server.add("v", DATA)

    error = failed(InputError, url, tmp_path, settings(allow_private_addresses=False))

    assert (error.code, error.code.retryable) == ("URL_NOT_ALLOWED", False)
    assert server.requests == []


def test_download_refuses_a_public_name_with_a_private_address(server, tmp_path):
    """What counts is where a name leads, not what it looks like."""
    server.add("v", DATA)
    url = server.url("v", host="videos.example")
    limits = settings(allow_private_addresses=False)

    error = failed(InputError, url, tmp_path, limits, resolve=lambda host, port: ["8.8.8.8", "127.0.0.1"])

    assert "not public" in error.message
    assert server.requests == []


def test_download_connects_to_the_checked_address(server, tmp_path):
    """The name is resolved once per connection, by us; the socket goes to that address, the Host stays."""
    server.add("v", DATA)
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    download(server.url("v", host="videos.example"), tmp_path, settings(), resolve=resolve)

    assert asked == ["videos.example"]
    assert server.requests[0].headers["host"] == f"videos.example:{server.port}"


def test_download_tries_the_next_address(server, tmp_path):
    """A host with several addresses is reached if one of them answers."""
    server.add("v", DATA)
    url = server.url("v", host="videos.example")

    source = download(url, tmp_path, settings(), resolve=lambda host, port: ["::1", "127.0.0.1"])

    assert source.size_bytes == len(DATA)


def test_download_ignores_proxies(server, tmp_path, monkeypatch):
    """A proxy in the environment is not used: behind it, addresses could not be checked."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert download(server.add("v", DATA), tmp_path, settings()).size_bytes == len(DATA)


def test_download_checks_certificates_by_name(tmp_path):
    """HTTPS to a pinned address is verified against the URL's host name."""
    with http_source(tls=True) as server:
        server.add("v", DATA)
        limits = settings(allow_http=False)
        good = server.url("v", host="videos.example")
        source = download(
            good, tmp_path, limits, resolve=lambda *_: ["127.0.0.1"], ssl_context=server.ssl_context
        )
        assert source.path.read_bytes() == DATA
        source.path.unlink()

        other = {"resolve": lambda *_: ["127.0.0.1"], "ssl_context": server.ssl_context}
        error = failed(SourceError, server.url("v", host="wrong.example"), tmp_path, limits, **other)
        assert "certificate" in error.message

        error = failed(SourceError, good, tmp_path, limits, resolve=lambda *_: ["127.0.0.1"])
        assert "certificate" in error.message


def test_download_does_not_go_from_https_to_http(server, tmp_path):
    """Even where http is allowed, a redirect must not drop the encryption."""
    with http_source(tls=True) as secure:
        url = secure.add("v", b"", always=Fault(redirect=server.add("v", DATA)))

        error = failed(InputError, url, tmp_path, settings(), ssl_context=secure.ssl_context)

        assert "https to http" in error.message
        assert server.requests == []


def test_download_takes_https_alone_by_default(tmp_path):
    """What else is refused by its form, `test_addresses.py` tells."""
    assert failed(InputError, "http://h/v.mp4", tmp_path, IntakeSettings()).code == "URL_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("encoding", "accepted"), [("gzip", False), ("aws-chunked", True), ("identity", True)]
)
def test_download_refuses_compressed_transfers(server, tmp_path, encoding, accepted):
    """A body that is not the file itself is refused with a helpful word."""
    url = server.add("v", DATA, always=Fault(headers={"Content-Encoding": encoding}))
    if accepted:
        assert download(url, tmp_path, settings()).path.read_bytes() == DATA
    else:
        assert "Content-Encoding" in failed(SourceError, url, tmp_path, settings()).message


def test_local_source_bypasses_the_download(tmp_path):
    """A local file is taken where it is; folders, missing and oversized files are refused."""
    file = tmp_path / "clip.mp4"
    file.write_bytes(DATA)

    assert local_source(file, settings()).path == file
    assert local_source(file, settings()).size_bytes == len(DATA)
    with pytest.raises(SourceError, match="DOWNLOAD_NOT_FOUND"):
        local_source(tmp_path / "missing", settings())
    with pytest.raises(SourceError, match="DOWNLOAD_DENIED"):
        local_source(tmp_path, settings())
    with pytest.raises(InputError, match="VIDEO_TOO_LARGE"):
        local_source(file, settings(max_bytes=10))
