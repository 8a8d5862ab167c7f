"""One attempt to fetch the rest of a file over HTTP: redirects, ranges, what each answer means.

Knows nothing of retries: it raises `TryAgain` where another attempt may go better.
"""

import contextlib
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpcore2
import httpx2

from handler.errors import InputError, SourceError
from handler.settings import IntakeSettings
from handler.transfer.addresses import AddressRefused, check_url
from handler.transfer.connections import as_target
from handler.transfer.numbers import whole_number
from handler.transfer.partial import PartialFile

Headers = dict[bytes | str, bytes | str]
Report = Callable[[int, int | None], None]  # (bytes so far, bytes in all if known)

REDIRECTS = {301, 302, 303, 307, 308}
LATER = {408, 425, 429}  # the 4xx answers that mean "not now"
STRONG_TAG = re.compile(r'"[ !#-~]{0,1000}"')  # W/ tags promise no equal bytes; others may not be sent back
# What S3 stores answer to a request that is signed for, or sent to, another region than the bucket's.
WRONG_REGION = re.compile(
    rb"<Code>(?:PermanentRedirect|TemporaryRedirect|IllegalLocationConstraintException)</Code>|<Region>"
)
REGION = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")
MAX_ERROR_BYTES, WORDS_SECONDS = 16 * 1024, 2.0  # of an answer that is read for its words
ASCII = "".join(map(chr, range(128)))
HARMLESS_ENCODINGS = {"", "identity", "aws-chunked"}  # the last: a slip of some S3 clients, the body is plain

# Most specific first; a test walks httpcore2's exceptions and fails on one that is not here.
TRANSIENT_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (httpcore2.ConnectTimeout, "no connection in time"),
    (httpcore2.ConnectError, "no connection"),
    (httpcore2.TimeoutException, "the server fell silent"),
    (httpcore2.NetworkError, "the connection broke"),
    (httpcore2.ProtocolError, "the answer broke off or was not HTTP"),
    (httpcore2.ProxyError, "a proxy is in the way"),
)


class TryAgain(Exception):
    """This attempt failed, the next may not; the message may be shown.

    Attributes:
        wait_seconds: the server's wish, or None.
    """

    def __init__(self, reason: str, wait_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What matters of a response's head."""

    status: int
    length: int | None
    range_start: int | None
    range_total: int | None
    etag: str | None
    encoding: str
    retry_after: int | None


def transfer(
    pool: httpcore2.ConnectionPool,
    address: httpx2.URL,
    partial: PartialFile,
    settings: IntakeSettings,
    report: Report,
) -> None:
    """Fetch what is missing; returns when the file is complete.

    A resume names the version it continues (Range with If-Range); a server that has another version,
    or knows no ranges, sends the whole file, and the old bytes are thrown away.
    A body without announced length ends where the server closes: that one cannot be told from a cut.

    Raises:
        TryAgain: broken connection, 5xx, too slow, changed file.
        InputError: URL_NOT_ALLOWED (a redirect), VIDEO_TOO_LARGE.
        SourceError: DOWNLOAD_DENIED, DOWNLOAD_NOT_FOUND, DOWNLOAD_FAILED, VIDEO_UNREADABLE.
        WorkerError: DISK_FULL.
    """
    headers: Headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "hmr2-phalp-worker"}
    if partial.size and partial.etag is None:
        partial.restart()
    if partial.size and partial.etag:
        headers |= {"Range": f"bytes={partial.size}-", "If-Range": partial.etag}
    with _translated_errors(), _get(pool, address, headers, settings) as response:
        answer = _read_head(response)
        if answer.status == 416 and partial.size and answer.range_total == partial.size:
            return  # everything was there already; only the end had not been noticed
        _refuse_failures(answer, response, partial)
        _find_place(answer, partial)
        _receive(response, partial, settings, report)
    if partial.total is not None and partial.size != partial.total:
        raise TryAgain("the answer broke off")


@contextlib.contextmanager
def _get(
    pool: httpcore2.ConnectionPool, address: httpx2.URL, headers: Headers, settings: IntakeSettings
) -> Iterator[httpcore2.Response]:
    """The first answer that leads nowhere else. Every address on the way is checked like the first."""
    seconds = {"connect": settings.connect_seconds, "pool": settings.connect_seconds}
    seconds |= {"read": settings.read_seconds, "write": settings.read_seconds}
    for _ in range(settings.max_redirects + 1):
        asked: Headers = {"Host": address.netloc, **headers}
        with pool.stream(
            "GET", as_target(address), headers=asked, extensions={"timeout": seconds}
        ) as response:
            location = _location(response)
            if response.status not in REDIRECTS or not location:
                yield response
                return
            address = _redirected(address, location, settings)
    raise InputError("URL_NOT_ALLOWED", f"the URL redirects more than {settings.max_redirects} times")


def _location(response: httpcore2.Response) -> str:
    """Where a redirect leads. Servers also send raw bytes, mostly UTF-8: each means what `%XX` would."""
    raw = next((value for name, value in response.headers if name.lower() == b"location"), b"").strip()
    try:
        return raw.decode()  # also in host names, which are not percent-encoded
    except UnicodeDecodeError:
        return quote(raw, safe=ASCII)


def _redirected(address: httpx2.URL, location: str, settings: IntakeSettings) -> httpx2.URL:
    try:
        joined = address.join(location)
    except (httpx2.InvalidURL, ValueError):
        raise AddressRefused("the server redirects to something that is no URL") from None
    if address.scheme == "https" and joined.scheme == "http":
        raise AddressRefused("the server redirects from https to http")
    return check_url(str(joined), settings)


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except AddressRefused as error:
        raise InputError("URL_NOT_ALLOWED", str(error)) from None
    except tuple(kind for kind, _ in TRANSIENT_ERRORS) as error:
        if _is_certificate_error(error):
            raise SourceError("DOWNLOAD_FAILED", "the server's certificate is not valid") from error
        reason = next(text for kind, text in TRANSIENT_ERRORS if isinstance(error, kind))
        raise TryAgain(reason) from error


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _read_head(response: httpcore2.Response) -> _Answer:
    head = {name.lower(): value.decode("latin-1").strip() for name, value in response.headers}
    span = re.fullmatch(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+|\*)", head.get(b"content-range", ""))
    start, total = span.groups() if span else (None, None)
    etag = head.get(b"etag", "")
    return _Answer(
        status=response.status,
        length=whole_number(head.get(b"content-length")),
        range_start=whole_number(start),
        range_total=whole_number(total),
        etag=etag if STRONG_TAG.fullmatch(etag) else None,
        encoding=head.get(b"content-encoding", "").lower(),
        retry_after=whole_number(head.get(b"retry-after")),
    )


def _refuse_failures(answer: _Answer, response: httpcore2.Response, partial: PartialFile) -> None:
    status = answer.status
    if status in (412, 416) and partial.size:
        partial.restart()
        raise TryAgain("the file changed while it was fetched")
    if status >= 500 or status in LATER:
        raise TryAgain(f"the server answered HTTP {status}", answer.retry_after)
    if status in (404, 410):
        raise SourceError("DOWNLOAD_NOT_FOUND", f"there is no file at this URL (HTTP {status})")
    if status in REDIRECTS or status == 400:
        _refuse_wrong_region(response)
    if status in REDIRECTS:
        raise SourceError(
            "DOWNLOAD_DENIED",
            f"the server redirects without saying where (HTTP {status}); a new link is needed",
        )
    if status in (400, 401, 403):  # stores say "expired" with any of these
        raise SourceError(
            "DOWNLOAD_DENIED",
            f"the server refused the link (HTTP {status}): "
            "it has expired or is not valid; a new link is needed",
        )
    if status not in (200, 206):
        raise SourceError("DOWNLOAD_DENIED", f"the server refused the request (HTTP {status})")
    if answer.encoding not in HARMLESS_ENCODINGS:
        raise SourceError(
            "VIDEO_UNREADABLE", "the server sends the file compressed; store it without Content-Encoding"
        )


def _refuse_wrong_region(response: httpcore2.Response) -> None:
    """S3 tells it by a redirect without a Location, or by a 400 whose words name the region."""
    words = _first_words(response)
    if response.status in REDIRECTS:
        words += b"".join(
            b"<Region>%b</Region>" % value.strip()
            for name, value in response.headers
            if name.lower() == b"x-amz-bucket-region"
        )
    if WRONG_REGION.search(words):
        region = REGION.search(words)
        where = f"its region, {region[1].decode()}," if region else "its region"
        raise SourceError(
            "DOWNLOAD_DENIED",
            f"the bucket is in another region than the link says (HTTP {response.status}): "
            f"a new link, signed for {where} is needed",
        )


def _first_words(response: httpcore2.Response) -> bytes:
    """The start of an answer's body, as far as it comes soon."""
    words, end = b"", time.monotonic() + WORDS_SECONDS
    with contextlib.suppress(
        httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException
    ):  # the status stays true
        for chunk in response.iter_stream():
            words += chunk
            if len(words) > MAX_ERROR_BYTES or time.monotonic() > end:
                break
    return words


def _find_place(answer: _Answer, partial: PartialFile) -> None:
    """Decide where the body goes: behind what is there, or in its place."""
    # Some servers answer a range with status 200, but name the range.
    if answer.status == 206 or (answer.range_start is not None and partial.size):
        same_version = answer.etag in (None, partial.etag) and partial.total in (None, answer.range_total)
        if answer.range_start != partial.size or (partial.size and not same_version):
            partial.restart()
            raise TryAgain("the file changed while it was fetched")
        total = answer.range_total
        if total is None and answer.length is not None:
            total = partial.size + answer.length
    else:
        if partial.size:
            partial.restart()
        total = answer.length
    if not partial.size:
        partial.etag = answer.etag
    partial.announce(total)


def _receive(
    response: httpcore2.Response, partial: PartialFile, settings: IntakeSettings, report: Report
) -> None:
    window_start, window_size = time.monotonic(), partial.size
    for chunk in response.iter_stream():
        partial.write(chunk)
        report(partial.size, partial.total)
        elapsed = time.monotonic() - window_start
        if elapsed >= settings.min_rate_seconds:
            if (partial.size - window_size) / elapsed < settings.min_bytes_per_second:
                raise TryAgain(f"slower than {settings.min_bytes_per_second:.0f} bytes per second")
            window_start, window_size = time.monotonic(), partial.size
