"""What a download does with a good server, a bad one and none; every failure leaves nothing behind."""

import hashlib
import inspect
import socket
import time

import httpcore2
import pytest

from handler.errors import ErrorCode, SourceError, WorkerError
from handler.source.download import download
from handler.transfer.errors import HTTP_ERRORS
from tests.handler.transfer.failures import DATA, failed, settings
from tests.http_source import Fault

SECRET = "v.mp4?X-Amz-Signature=SECRETSIGNATURE"


def test_download_fetches_a_file(server, tmp_path):
    """The bytes, their length, hash and version tag are given; the request asks for plain bytes."""
    seen = []
    source = download(
        server.add("v.mp4", DATA) + "?sig=1", tmp_path, settings(), report=lambda *a: seen.append(a)
    )

    assert source.path.read_bytes() == DATA
    assert source.sha256 == hashlib.sha256(DATA).hexdigest()
    assert source.size_bytes == len(DATA)
    assert len(server.requests) == 1
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


def test_download_ends_where_the_server_said(server, tmp_path):
    """Bytes beyond the announced length are not the file's; the probe will see an MP4 that is cut off."""
    assert (
        download(server.add("v", DATA, Fault(declared_length=1000)), tmp_path, settings()).size_bytes == 1000
    )


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
    assert len(server.requests) == 2
    resumed = server.requests[1].headers
    assert resumed["if-range"] == f'"{hashlib.md5(DATA).hexdigest()}"'
    assert 0 < int(resumed["range"].removeprefix("bytes=").removesuffix("-")) <= len(DATA)


@pytest.mark.parametrize(
    "second",
    [
        Fault(),
        Fault(range_status=200),
        Fault(ignore_if_range=True, etag="", headers={"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}),
        Fault(ignore_range=True),
    ],
    ids=["206", "200 that names the range", "206 without the tag", "200 with everything"],
)
def test_download_takes_every_answer_to_a_range(server, tmp_path, second):
    """Servers may answer a range with 206, with 200 and the range, or with 200 and the whole file."""
    source = download(server.add("v", DATA, Fault(cut_after=300_000), second), tmp_path, settings())

    assert source.path.read_bytes() == DATA
    assert source.sha256 == hashlib.sha256(DATA).hexdigest()
    assert len(server.requests) == 2


def test_download_starts_over_when_the_file_changed(server, tmp_path):
    """A new version between two attempts replaces the old bytes; the two are never mixed."""
    new = b"new" * 100_000
    url = server.add("v", DATA, Fault(cut_after=100_000), Fault(data=new), Fault(data=new))

    source = download(url, tmp_path, settings(download_attempts=3))

    assert source.path.read_bytes() == new
    assert source.sha256 == hashlib.sha256(new).hexdigest()


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

    assert download(url, tmp_path, settings()).path.read_bytes() == DATA
    assert len(server.requests) == 2


def test_download_starts_over_when_the_file_shrank(server, tmp_path):
    """A 416 for a file that is now shorter throws the old bytes away."""
    gone = Fault(status=416, headers={"Content-Range": "bytes */10"})
    url = server.add("v", DATA, Fault(cut_after=100_000), gone)

    assert download(url, tmp_path, settings(download_attempts=3)).path.read_bytes() == DATA
    assert "range" not in server.requests[2].headers


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_download_tries_again_after_a_passing_failure(server, tmp_path, status):
    """5xx and the 4xx answers that mean "not now" are tried again."""
    download(server.add("v", DATA, Fault(status=status)), tmp_path, settings())

    assert len(server.requests) == 2


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
    assert not error.code.retryable
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
    assert error.code.retryable
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
            raise WorkerError(ErrorCode.CANCELLED, "the caller ended the job")

    limits = settings(read_seconds=60, download_attempts=20)
    assert failed(WorkerError, url, tmp_path, limits, check=check).code == "CANCELLED"
    assert time.monotonic() - end < 10


def test_download_says_when_nobody_answers(tmp_path):
    """A closed port and an unknown name are failures that may pass."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen; bound, so that nobody else can
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        assert "no connection" in failed(SourceError, url, tmp_path, settings()).message

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "SECRET")

    error = failed(SourceError, "http://nowhere.example/", tmp_path, settings(), resolve=unknown)
    assert (error.code, error.code.retryable) == ("DOWNLOAD_FAILED", True)


def test_transfer_translates_every_network_error():
    """The table covers every exception the HTTP library can raise."""
    internal = {httpcore2.ConnectionNotAvailable, httpcore2.UnsupportedProtocol}
    for _, kind in inspect.getmembers(httpcore2, inspect.isclass):
        if issubclass(kind, Exception) and kind not in internal:
            assert any(issubclass(kind, known) for known, _ in HTTP_ERRORS), kind
