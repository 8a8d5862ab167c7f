"""What a download does with a good server, a bad one and none; every failure leaves nothing behind."""

import errno
import hashlib
import inspect
import socket
import threading
import time

import httpcore2
import pytest

from handler.errors import InputError, JobError, SourceError, WorkerError
from handler.settings import IntakeSettings
from handler.source.download import download, local_source
from handler.source.partial import PartialFile
from handler.source.transfer import TRANSIENT_ERRORS
from tests.http_source import Fault, http_source

DATA = bytes(range(256)) * 2000  # 512 kB
SECRET = "v.mp4?X-Amz-Signature=SECRETSIGNATURE"


def settings(**changes) -> IntakeSettings:
    """The limits of these tests: loopback, one quick retry."""
    values = {
        "allow_http": True,
        "allow_private_addresses": True,
        "allowed_ports": (),
        "download_attempts": 2,
        "read_seconds": 0.3,
        "reserve_disk_bytes": 0,
    }
    return IntakeSettings(**(values | changes))


@pytest.fixture
def server():
    """A running server of its own for each test."""
    with http_source() as running:
        yield running


def failed(kind: type[JobError], url: str, folder, limits: IntakeSettings, **more) -> JobError:
    """The error of a download that must fail, after the checks that hold for every failure."""
    threads = set(threading.enumerate())
    with pytest.raises(kind) as caught:
        download(url, folder, limits, **more)
    assert list(folder.iterdir()) == []
    assert {
        thread for thread in set(threading.enumerate()) - threads if "process_request" not in thread.name
    } == set()
    told = str(caught.value) + repr(caught.value)
    assert "SECRET" not in told
    assert "127.0.0.1" not in told
    assert "mp4" not in told
    return caught.value


def test_download_fetches_a_file(server, tmp_path):
    """The bytes, their length, hash and version tag are given; the request asks for plain bytes."""
    seen = []
    source = download(
        server.add("v.mp4", DATA) + "?sig=1", tmp_path, settings(), report=lambda *a: seen.append(a)
    )

    assert source.path.read_bytes() == DATA
    assert source.sha256 == hashlib.sha256(DATA).hexdigest()
    assert source.size_bytes == len(DATA)
    assert source.etag == f'"{hashlib.md5(DATA).hexdigest()}"'
    assert source.num_attempts == 1
    assert seen[-1] == (len(DATA), len(DATA))
    assert [entry[0] for entry in seen] == sorted(entry[0] for entry in seen)
    assert server.requests[0].path == "/v.mp4?sig=1"
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert [file.name for file in tmp_path.iterdir()] == ["video"]


@pytest.mark.parametrize("fault", [Fault(no_length=True), Fault(chunked=True)], ids=["no length", "chunked"])
def test_download_accepts_a_body_of_unknown_length(server, tmp_path, fault):
    """A server need not announce the length."""
    assert download(server.add("v", DATA, fault), tmp_path, settings()).path.read_bytes() == DATA


def test_download_accepts_an_empty_file(server, tmp_path):
    """Zero bytes are a download; that they are no video is for the probe to say."""
    assert download(server.add("v", b""), tmp_path, settings()).size_bytes == 0


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_after=200_000),
        Fault(cut_after=200_000, reset=True),
        Fault(cut_after=200_000, chunked=True),
        Fault(stall_after=200_000),
        Fault(declared_length=len(DATA) + 10),
    ],
    ids=["cut", "reset", "cut chunked", "stalled", "announced too long"],
)
def test_download_resumes_where_it_broke(server, tmp_path, fault):
    """A broken transfer goes on from the bytes that arrived, if the server still has that version."""
    source = download(server.add("v", DATA, fault), tmp_path, settings())

    assert source.path.read_bytes() == DATA
    assert source.sha256 == hashlib.sha256(DATA).hexdigest()
    assert source.num_attempts == 2
    resumed = server.requests[1].headers
    assert resumed["if-range"] == source.etag
    assert 0 < int(resumed["range"].removeprefix("bytes=").removesuffix("-")) <= len(DATA)


@pytest.mark.parametrize(
    ("second", "resumed"),
    [
        (Fault(), True),
        (Fault(range_status=200), True),
        (Fault(ignore_range=True), False),
    ],
    ids=["206", "200 that names the range", "200 with everything"],
)
def test_download_takes_every_answer_to_a_range(server, tmp_path, second, resumed):
    """Servers may answer a range with 206, with 200 and the range, or with 200 and the whole file."""
    source = download(server.add("v", DATA, Fault(cut_after=300_000), second), tmp_path, settings())

    assert source.path.read_bytes() == DATA
    assert source.sha256 == hashlib.sha256(DATA).hexdigest()


def test_download_starts_over_when_the_file_changed(server, tmp_path):
    """A new version between two attempts replaces the old bytes; the two are never mixed."""
    new = b"new" * 100_000
    url = server.add("v", DATA, Fault(cut_after=100_000), Fault(data=new), Fault(data=new))

    source = download(url, tmp_path, settings(download_attempts=3))

    assert source.path.read_bytes() == new
    assert source.sha256 == hashlib.sha256(new).hexdigest()
    assert source.etag == f'"{hashlib.md5(new).hexdigest()}"'


def test_download_does_not_trust_a_range_of_another_version(server, tmp_path):
    """A server that ignores If-Range and sends a part of another version is found out by its ETag."""
    new = b"n" * len(DATA)
    sly = Fault(data=new, ignore_if_range=True)
    url = server.add("v", DATA, Fault(cut_after=100_000), sly, always=Fault(data=new))

    assert download(url, tmp_path, settings(download_attempts=3)).path.read_bytes() == new


@pytest.mark.parametrize("etag", ["", 'W/"weak"'], ids=["none", "weak"])
def test_download_does_not_resume_without_a_strong_etag(server, tmp_path, etag):
    """Without a tag that promises equal bytes the file is fetched anew."""
    url = server.add("v", DATA, Fault(cut_after=100_000, etag=etag), Fault(etag=etag))

    assert download(url, tmp_path, settings()).path.read_bytes() == DATA
    assert "range" not in server.requests[1].headers


def test_download_ends_well_when_only_the_end_was_missed(server, tmp_path):
    """A transfer of unknown length cut after its last byte is complete when the server says 416."""
    url = server.add("v", DATA, Fault(stall_after=len(DATA), no_length=True))

    source = download(url, tmp_path, settings())

    assert source.path.read_bytes() == DATA
    assert source.num_attempts == 2


def test_download_starts_over_when_the_file_shrank(server, tmp_path):
    """A 416 for a file that is now shorter throws the old bytes away."""
    gone = Fault(status=416, headers={"Content-Range": "bytes */10"})
    url = server.add("v", DATA, Fault(cut_after=100_000), gone)

    assert download(url, tmp_path, settings(download_attempts=3)).path.read_bytes() == DATA
    assert "range" not in server.requests[2].headers


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_download_tries_again_after_a_passing_failure(server, tmp_path, status):
    """5xx and the 4xx answers that mean "not now" are tried again."""
    assert download(server.add("v", DATA, Fault(status=status)), tmp_path, settings()).num_attempts == 2


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "DOWNLOAD_DENIED", "new link"),
        (401, "DOWNLOAD_DENIED", "new link"),
        (400, "DOWNLOAD_DENIED", "new link"),
        (404, "DOWNLOAD_NOT_FOUND", "no file"),
        (410, "DOWNLOAD_NOT_FOUND", "no file"),
        (405, "DOWNLOAD_DENIED", "HTTP 405"),
        (304, "DOWNLOAD_DENIED", "HTTP 304"),
    ],
)
def test_download_asks_once_when_the_answer_is_final(server, tmp_path, status, code, words):
    """Refusals are not repeated, and an expired link says that a new one is needed."""
    server.add(SECRET.partition("?")[0], DATA, always=Fault(status=status))
    error = failed(SourceError, server.url(SECRET), tmp_path, settings())

    assert error.code == code
    assert words in error.message
    assert not error.retryable
    assert len(server.requests) == 1


def test_download_says_so_when_the_link_expires_between_two_attempts(server, tmp_path):
    """A resume refused with 403 is an expired link, not a network failure."""
    url = server.add("v", DATA, Fault(cut_after=100_000), always=Fault(status=403))

    assert failed(SourceError, url, tmp_path, settings(download_attempts=5)).code == "DOWNLOAD_DENIED"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=500), "HTTP 500"),
        (Fault(cut_after=10), "broke"),
        (Fault(silent=True), "silent"),
        (Fault(stall_after=10), "silent"),
    ],
    ids=["500", "cut", "no answer", "stalled"],
)
def test_download_gives_up_after_its_attempts(server, tmp_path, fault, words):
    """A failure that does not pass ends with DOWNLOAD_FAILED, which may be retried, and the last reason."""
    error = failed(SourceError, server.add("v", DATA, always=fault), tmp_path, settings())

    assert error.code == "DOWNLOAD_FAILED"
    assert error.retryable
    assert words in error.message
    assert len(server.requests) == 2


def test_download_gives_up_on_a_slow_server(server, tmp_path):
    """Less than min_bytes_per_second over the window is too slow."""
    url = server.add("v", DATA, always=Fault(bytes_per_second=20_000))
    limits = settings(min_bytes_per_second=200_000, min_rate_seconds=0.2, download_attempts=1)

    assert "slower" in failed(SourceError, url, tmp_path, limits).message


@pytest.mark.parametrize(
    "fault",
    [Fault(bytes_per_second=2000), Fault(bytes_per_second=40, slow_head=True), Fault(silent=True)],
    ids=["slow body", "slow head", "silent"],
)
def test_download_ends_at_its_deadline(server, tmp_path, fault):
    """No way of being slow outlives download_seconds, not even a head sent byte by byte."""
    limits = settings(download_seconds=0.5, read_seconds=60)
    start = time.monotonic()

    error = failed(SourceError, server.add("v", DATA, always=fault), tmp_path, limits)

    assert error.code == "DOWNLOAD_FAILED"
    assert "longer than" in error.message
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("fault", [Fault(stall_after=100_000), Fault(silent=True), Fault(status=503)])
def test_download_can_be_cancelled_while_it_waits(server, tmp_path, fault):
    """A cancel ends a download that waits for data, for an answer or for its next attempt."""
    url = server.add("v", DATA, always=fault)
    end = time.monotonic() + 0.4

    def check() -> None:
        if time.monotonic() > end:
            raise WorkerError("CANCELLED", "the caller ended the job")

    limits = settings(read_seconds=60, download_attempts=20)
    assert failed(WorkerError, url, tmp_path, limits, check=check).code == "CANCELLED"
    assert time.monotonic() - end < 10


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

    assert (error.code, error.retryable, error.refresh_worker) == ("DISK_FULL", True, True)
    assert download(url, tmp_path, limits, free=lambda folder: len(DATA) + 1000).size_bytes == len(DATA)


def test_download_notices_a_disk_that_fills_up(server, tmp_path, monkeypatch):
    """The free space is looked at again while bytes of unknown number come in."""
    monkeypatch.setattr("handler.source.partial.DISK_CHECK_BYTES", 100_000)
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


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1/",
        "gopher://h/",
        "http://[::1/",
    ],
)
def test_download_checks_where_it_is_redirected(server, tmp_path, target):
    """A redirect to a metadata service, a file or a strange scheme is refused and not retried."""
    url = server.add("v", b"", always=Fault(redirect=target))

    assert failed(InputError, url, tmp_path, settings()).code == "URL_NOT_ALLOWED"
    assert len(server.requests) == 1


def test_download_refuses_private_addresses_by_default(server, tmp_path):
    """Without allow_private_addresses the loopback server is not even asked."""
    url = server.add("v", DATA)

    error = failed(InputError, url, tmp_path, settings(allow_private_addresses=False))

    assert (error.code, error.retryable) == ("URL_NOT_ALLOWED", False)
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


def test_download_says_when_nobody_answers(tmp_path):
    """A closed port and an unknown name are failures that may pass."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert "no connection" in failed(SourceError, f"http://127.0.0.1:{port}/", tmp_path, settings()).message

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "SECRET")

    error = failed(SourceError, "http://nowhere.example/", tmp_path, settings(), resolve=unknown)
    assert (error.code, error.retryable) == ("DOWNLOAD_FAILED", True)


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


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "http://h/v.mp4", "concat:a.mp4|b.mp4", "https://u:p@h/", "not a url", ""],
)
def test_download_refuses_other_urls_without_a_connection(tmp_path, url):
    """By default only https URLs without a user name are taken."""
    assert failed(InputError, url, tmp_path, IntakeSettings()).code == "URL_NOT_ALLOWED"


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


def test_transfer_translates_every_network_error():
    """The table covers every exception the HTTP library can raise."""
    internal = {httpcore2.ConnectionNotAvailable, httpcore2.UnsupportedProtocol}
    for _, kind in inspect.getmembers(httpcore2, inspect.isclass):
        if issubclass(kind, Exception) and kind not in internal:
            assert any(issubclass(kind, known) for known, _ in TRANSIENT_ERRORS), kind


def test_partial_file_counts_and_restarts(tmp_path):
    """A restart forgets bytes, hash, tag and length."""
    with PartialFile(tmp_path / "f", settings()) as partial:
        partial.etag = '"a"'
        partial.announce(100)
        partial.write(b"old bytes")
        partial.restart()
        partial.write(b"new")

        assert (partial.size, partial.etag, partial.total, partial.num_restarts) == (3, None, None, 1)
        assert partial.sha256 == hashlib.sha256(b"new").hexdigest()
    assert (tmp_path / "f").read_bytes() == b"new"


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
