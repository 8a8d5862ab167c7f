"""What a download refuses: addresses, redirects, certificates, sizes, a full disk."""

import shutil
import socket

import pytest

from handler.errors import InputError, SourceError, WorkerError
from handler.source.download import download, local_source
from tests.handler.transfer.failures import DATA, failed, settings
from tests.http_source import Fault, http_source


@pytest.mark.parametrize(
    "fault", [Fault(), Fault(chunked=True), Fault(no_length=True)], ids=["declared", "chunked", "no length"]
)
def test_download_refuses_what_is_too_large(server, tmp_path, fault):
    """The limit holds for the announced length, before a byte is written, and for the bytes that come."""
    sizes = [0]

    def check() -> None:
        sizes.extend(file.stat().st_size for file in tmp_path.iterdir())

    url = server.add("v", DATA, always=fault)
    error = failed(InputError, url, tmp_path, settings(max_bytes=100_000), check=check)

    assert error.code == "VIDEO_TOO_LARGE"
    assert max(sizes) <= (100_000 if fault.chunked or fault.no_length else 0)


def set_free(monkeypatch, *sizes: int) -> None:
    """Let the disk have so many bytes free at each look; the last number stays."""
    left, usage = list(sizes), shutil.disk_usage("/")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=left.pop(0) if len(left) > 1 else left[0])
    )


def test_download_refuses_what_the_disk_cannot_hold(server, tmp_path, monkeypatch):
    """A file that would eat into the reserve is refused before its first byte."""
    url = server.add("v", DATA)
    limits = settings(reserve_disk_bytes=1000)

    set_free(monkeypatch, len(DATA) + 999)
    error = failed(WorkerError, url, tmp_path, limits)
    assert (error.code, error.code.retryable, error.code.refresh_worker) == ("DISK_FULL", True, True)

    set_free(monkeypatch, len(DATA) + 1000)
    assert download(url, tmp_path, limits).path.read_bytes() == DATA


def test_download_notices_a_disk_that_fills_up(server, tmp_path, monkeypatch):
    """The free space is looked at again while bytes of unknown number come in."""
    monkeypatch.setattr("handler.transfer.partial.DISK_CHECK_BYTES", 100_000)
    set_free(monkeypatch, 10_000_000, 10_000_000, 10)
    url = server.add("v", DATA, Fault(chunked=True))

    assert failed(WorkerError, url, tmp_path, settings(reserve_disk_bytes=1000)).code == "DISK_FULL"


def test_download_translates_a_full_disk(server, tmp_path):
    """ENOSPC from the operating system is DISK_FULL, and what was written is removed."""
    (tmp_path / "video.part").symlink_to("/dev/full")

    assert failed(WorkerError, server.add("v", DATA), tmp_path, settings()).code == "DISK_FULL"


def test_download_lets_other_disk_errors_through(server, tmp_path):
    """An error of the disk that is not about space is not dressed up as one."""
    with pytest.raises(FileNotFoundError):
        download(server.add("v", DATA), tmp_path / "missing", settings())


def test_download_follows_redirects(server, tmp_path):
    """Redirects are followed, also relative ones, and the query of the first URL is not carried along."""
    server.add("end", DATA)
    server.add("middle", b"", always=Fault(redirect="/end?b=2"))
    url = server.add("start", b"", always=Fault(redirect=server.url("middle"))) + "?token=SECRET"

    assert download(url, tmp_path, settings()).path.read_bytes() == DATA
    assert [seen.path for seen in server.requests] == ["/start?token=SECRET", "/middle", "/end?b=2"]


def test_download_limits_redirects(server, tmp_path):
    """A redirect circle ends after max_redirects."""
    url = server.add("v", b"", always=Fault(redirect="/v"))

    assert failed(InputError, url, tmp_path, settings(max_redirects=3)).code == "URL_NOT_ALLOWED"
    assert len(server.requests) == 4


@pytest.mark.parametrize("host", ["127.0.0.1", "videos.example"])
def test_download_refuses_private_addresses_by_default(server, tmp_path, hosts, host):
    """What counts is where a name leads, not what it looks like; the server there is not even asked."""
    hosts["videos.example"] = ["8.8.8.8", "127.0.0.1"]
    server.add("v", DATA)

    error = failed(InputError, server.url("v", host=host), tmp_path, settings(allow_private_addresses=False))

    assert (error.code, error.code.retryable) == ("URL_NOT_ALLOWED", False)
    assert "not public" in error.message
    assert server.requests == []


def test_download_connects_to_a_checked_address(server, tmp_path, hosts, monkeypatch):
    """The name is looked up once per connection, each address is tried in turn, the Host stays."""
    server.add("v", DATA)
    looked_up = []
    system = socket.getaddrinfo

    def look_up(host, *args, **more):
        looked_up.append(host)
        return system(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    hosts["videos.example"] = ["::1", "127.0.0.1"]

    download(server.url("v", host="videos.example"), tmp_path, settings())

    assert looked_up.count("videos.example") == 1
    assert server.requests[0].headers["host"] == f"videos.example:{server.port}"


def test_download_ignores_proxies(server, tmp_path, monkeypatch):
    """A proxy in the environment is not used: behind it, addresses could not be checked."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert download(server.add("v", DATA), tmp_path, settings()).path.read_bytes() == DATA


def test_download_checks_certificates_by_name(tmp_path, hosts):
    """HTTPS to a checked address is verified against the URL's host name."""
    hosts.update({"videos.example": ["127.0.0.1"], "wrong.example": ["127.0.0.1"]})
    with http_source(tls=True) as server:
        server.add("v", DATA)
        limits = settings(allow_http=False)
        good, wrong = (server.url("v", host=f"{name}.example") for name in ("videos", "wrong"))
        for url, trusted in ((wrong, server.ssl_context), (good, None)):
            error = failed(SourceError, url, tmp_path, limits, ssl_context=trusted)
            assert "certificate" in error.message

        assert download(good, tmp_path, limits, ssl_context=server.ssl_context).path.read_bytes() == DATA


def test_download_does_not_go_from_https_to_http(server, tmp_path):
    """Even where http is allowed, a redirect must not drop the encryption."""
    with http_source(tls=True) as secure:
        url = secure.add("v", b"", always=Fault(redirect=server.add("v", DATA)))

        error = failed(InputError, url, tmp_path, settings(), ssl_context=secure.ssl_context)

        assert "https to http" in error.message
        assert server.requests == []


def test_download_refuses_compressed_transfers(server, tmp_path):
    """A body that is not the file itself is refused with a helpful word; harmless codings are not."""
    coded = [Fault(headers={"Content-Encoding": coding}) for coding in ("gzip", "aws-chunked", "identity")]
    url = server.add("v", DATA, *coded)

    assert "Content-Encoding" in failed(SourceError, url, tmp_path, settings()).message
    for _ in coded[1:]:
        assert download(url, tmp_path, settings()).path.read_bytes() == DATA


def test_local_source_bypasses_the_download(tmp_path):
    """A local file is taken where it is; folders, missing and oversized files are refused."""
    file = tmp_path / "clip.mp4"
    file.write_bytes(DATA)

    assert local_source(file, settings(max_bytes=len(DATA))).path == file
    with pytest.raises(SourceError, match="DOWNLOAD_NOT_FOUND"):
        local_source(tmp_path / "missing", settings())
    with pytest.raises(SourceError, match="DOWNLOAD_DENIED"):
        local_source(tmp_path, settings())
    with pytest.raises(InputError, match="VIDEO_TOO_LARGE"):
        local_source(file, settings(max_bytes=len(DATA) - 1))
