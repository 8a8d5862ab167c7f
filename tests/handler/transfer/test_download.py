"""What a download does with a good server, a bad one and none; every failure leaves nothing behind."""

import hashlib
import inspect
import socket
import time

import httpcore2
import pytest

from handler.errors import ErrorCode, SourceError, WorkerError
from handler.results.store import CODES as UPLOAD_CODES
from handler.source.download import CODES as DOWNLOAD_CODES
from handler.source.download import download
from handler.transfer.errors import HTTP_ERRORS, Problem
from handler.transfer.partial import PartialFile
from tests.handler.transfer.failures import DATA, failed, settings
from tests.http_source import Fault

SECRET = "v.mp4?X-Amz-Signature=SECRETSIGNATURE"
NEW = b"n" * len(DATA)
CUT = Fault(cut_after=100_000)


def test_download_fetches_a_file(server, tmp_path):
    """The bytes and their hash are given; the request asks for plain bytes, once."""
    source = download(server.add("v.mp4", DATA) + "?sig=1", tmp_path, settings())

    assert source.path.read_bytes() == DATA
    assert source.sha256 == hashlib.sha256(DATA).hexdigest()
    assert [request.path for request in server.requests] == ["/v.mp4?sig=1"]
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert [file.name for file in tmp_path.iterdir()] == ["video"]


@pytest.mark.parametrize(
    ("data", "fault", "expected"),
    [
        (DATA, Fault(no_length=True), DATA),
        (DATA, Fault(chunked=True), DATA),
        (b"", Fault(), b""),
        (DATA, Fault(declared_length=1000), DATA[:1000]),
    ],
    ids=["no length", "chunked", "empty", "announced too short"],
)
def test_download_takes_every_kind_of_body(server, tmp_path, data, fault, expected):
    """The length need not be announced; bytes beyond it are not the file's. The probe judges what came."""
    assert download(server.add("v", data, fault), tmp_path, settings()).path.read_bytes() == expected


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
        Fault(range_status=200),
        Fault(ignore_if_range=True, etag="", headers={"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}),
        Fault(ignore_range=True),
    ],
    ids=["200 that names the range", "206 without the tag", "200 with everything"],
)
def test_download_takes_every_answer_to_a_range(server, tmp_path, second):
    """Servers may answer a range with 206, with 200 and the range, or with 200 and the whole file."""
    source = download(server.add("v", DATA, CUT, second), tmp_path, settings())

    assert source.path.read_bytes() == DATA
    assert source.sha256 == hashlib.sha256(DATA).hexdigest()
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("faults", "expected", "asked_for_the_rest"),
    [
        ([CUT, Fault(data=NEW)], NEW, [True]),
        ([CUT, Fault(data=NEW, ignore_if_range=True), Fault(data=NEW)], NEW, [True, False]),
        ([CUT, Fault(status=416, headers={"Content-Range": "bytes */10"})], DATA, [True, False]),
        ([Fault(cut_after=100_000, etag=""), Fault(etag="")], DATA, [False]),
        ([Fault(cut_after=100_000, etag='W/"weak"'), Fault(etag='W/"weak"')], DATA, [False]),
    ],
    ids=["changed", "changed, If-Range ignored", "shrank", "no tag", "weak tag"],
)
def test_download_never_mixes_two_versions(server, tmp_path, faults, expected, asked_for_the_rest):
    """Without the promise that the rest belongs to the bytes that are there, the file is fetched anew."""
    source = download(server.add("v", DATA, *faults), tmp_path, settings(download_attempts=3))

    assert source.path.read_bytes() == expected
    assert source.sha256 == hashlib.sha256(expected).hexdigest()
    assert ["range" in request.headers for request in server.requests[1:]] == asked_for_the_rest


def test_download_ends_well_when_only_the_end_was_missed(server, tmp_path):
    """A transfer of unknown length cut after its last byte is complete when the server says 416."""
    url = server.add("v", DATA, Fault(stall_after=len(DATA), no_length=True))

    assert download(url, tmp_path, settings()).path.read_bytes() == DATA
    assert len(server.requests) == 2


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
    url = server.add("v", DATA, CUT, always=Fault(status=403))

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

    assert (error.code, error.code.retryable) == ("DOWNLOAD_FAILED", True)
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


def test_download_says_when_nobody_answers(tmp_path, hosts):
    """A closed port may pass; a host name that does not exist will not."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen; bound, so that no other process can
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        assert "no connection" in failed(SourceError, url, tmp_path, settings()).message

    hosts["nowhere.example"] = []
    error = failed(SourceError, "http://nowhere.example/", tmp_path, settings())
    assert (error.code, error.code.retryable) == ("DOWNLOAD_NOT_FOUND", False)
    assert error.message == "the server has a host name that does not exist"


def test_transfer_translates_every_network_error():
    """The table covers every exception the HTTP library can raise."""
    internal = {httpcore2.ConnectionNotAvailable, httpcore2.UnsupportedProtocol}
    for _, kind in inspect.getmembers(httpcore2, inspect.isclass):
        if issubclass(kind, Exception) and kind not in internal:
            assert any(issubclass(kind, known) for known, _ in HTTP_ERRORS), kind


def test_every_problem_has_a_code():
    """Downloads and uploads code all that can happen to them, with codes that their classes have."""
    of_buckets = {Problem.NAME_INVALID, Problem.ACCESS_DENIED, Problem.KEYS_REFUSED, Problem.UPLOAD_UNKNOWN}
    assert set(DOWNLOAD_CODES) == set(Problem) - of_buckets
    assert set(UPLOAD_CODES) == set(Problem) - {Problem.ENCODED, Problem.TOO_LARGE, Problem.DISK_FULL}
    for kind, code, message in (*DOWNLOAD_CODES.values(), *UPLOAD_CODES.values()):
        assert kind(code, message).code == code


@pytest.mark.parametrize(
    ("source", "version", "note", "kept"),
    [
        ("here", '"a"', None, True),
        ("elsewhere", '"a"', None, False),
        (None, '"a"', None, False),
        ("here", None, None, False),
        ("here", '"a"', b"[1]", False),
        ("here", '"a"', b"\xff{", False),
    ],
    ids=["same source", "another source", "not asked for", "no version", "strange note", "broken note"],
)
def test_later_run_goes_on_with_the_same_version_of_the_same_source(tmp_path, source, version, note, kept):
    """Only bytes whose source and version are known are kept, and they are hashed with the rest."""
    with PartialFile(tmp_path / "f", reserve_bytes=0, source="here") as partial:
        partial.describe(version, 8)
        partial.write(b"1234")
    if note is not None:
        (tmp_path / "f.json").write_bytes(note)

    with PartialFile(tmp_path / "f", reserve_bytes=0, source=source) as partial:
        assert (partial.size, partial.version) == ((4, '"a"') if kept else (0, None))
        partial.write(b"5678")
        assert partial.sha256 == hashlib.sha256(b"12345678" if kept else b"5678").hexdigest()
        partial.discard()
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "f.json"])
