"""A file at an HTTP address, from any byte on: redirects, ranges, what each answer means."""

import contextlib
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import httpcore2
import httpx2

from handler.context import Check
from handler.settings import IntakeSettings
from handler.transfer.addresses import AddressRefused, check_url
from handler.transfer.connections import Headers, requested
from handler.transfer.download import Answer
from handler.transfer.errors import Problem, TransferError, is_busy

REDIRECTS = {301, 302, 303, 307, 308}
STRONG_TAG = re.compile(r'"[ !#-~]{0,1000}"')  # W/ tags promise no equal bytes; others may not be sent back
DATE = re.compile(r"[A-Za-z0-9,: ]{1,40}")
SPAN = re.compile(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+|\*)")
DIGITS = re.compile(r"[0-9]{1,20}")  # as many as HTTP libraries take; `int` refuses thousands of them
COMMIT = re.compile(r"[0-9a-f]{40}")
# What S3 stores answer to a request that is signed for, or sent to, another region than the bucket's.
WRONG_REGION = re.compile(
    rb"<Code>(?:PermanentRedirect|TemporaryRedirect|IllegalLocationConstraintException)</Code>|<Region>"
)
REGION = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")
MAX_ERROR_BYTES, WORDS_SECONDS = 16 * 1024, 2.0  # of an answer that is read for its words
ASCII = "".join(map(chr, range(128)))
HARMLESS_ENCODINGS = {"", "identity", "aws-chunked"}  # the last: a slip of some S3 clients, the body is plain


@dataclass(slots=True, repr=False)  # the URL may hold a signature
class HttpFile:
    """A file at an address from `check_url`; `rules` hold for what it redirects to as well.

    `check` is called before every network operation and while waiting; what it raises comes out. With
    `takes_encoded`, a body that the server calls compressed is taken as it is.
    """

    url: httpx2.URL
    rules: IntakeSettings
    check: Check
    ssl_context: ssl.SSLContext | None = None  # default: the usual certificate authorities
    takes_encoded: bool = False
    commit: str | None = None  # that a model hub names on the way, 40 hex digits

    def __post_init__(self) -> None:
        self.ssl_context = self.ssl_context or httpcore2.default_ssl_context()

    @contextlib.contextmanager
    def open_at(self, start: int, version: str | None) -> Iterator[Answer]:
        """The rest of the file from byte `start` on; see `handler.transfer.download.OpenAt`.

        A resume names the version that it continues (Range with If-Range); a server that has another one, or
        does not support ranges, sends the whole file.

        Raises:
            TransferError: everything but NAME_INVALID and what concerns keys, uploads and the disk.
        """
        headers: Headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if start and version:
            headers |= {"Range": f"bytes={start}-", "If-Range": version}
        with self._get(headers) as response:
            span = SPAN.fullmatch(_header(response, "content-range"))
            first, total = map(whole_number, span.groups()) if span else (None, None)
            if response.status == 416 and start and total == start:
                # Everything was there already; only the end had not been noticed.
                yield Answer(start=start, total=start, version=version, chunks=())
                return
            self._refuse_failures(response, start)
            length = whole_number(_header(response, "content-length"))
            # Some servers answer a range with status 200, but name the range.
            if response.status == 206 or (first is not None and start):
                if first is None:
                    raise TransferError(Problem.CHANGED, "sent another part than it was asked for")
                if total is None and length is not None:
                    total = first + length
            else:
                first, total = 0, length
            found = _version(response, version)
            yield Answer(start=first, total=total, version=found, chunks=response.iter_stream())

    @contextlib.contextmanager
    def _get(self, headers: Headers) -> Iterator[httpcore2.Response]:
        """The first answer that is not a redirect. Every address on the way is checked like the first."""
        url = self.url
        for _ in range(self.rules.max_redirects + 1):
            with requested(
                "GET",
                url,
                headers,
                rules=self.rules,
                limits=self.rules,
                check=self.check,
                ssl_context=self.ssl_context,
            ) as response:
                commit = COMMIT.fullmatch(_header(response, "x-repo-commit"))
                self.commit = self.commit or (commit[0] if commit else None)
                location = _location(response)
                if response.status not in REDIRECTS or not location:
                    yield response
                    return
                url = self._redirected(url, location)
        raise AddressRefused(f"the URL redirects more than {self.rules.max_redirects} times")

    def _redirected(self, url: httpx2.URL, location: str) -> httpx2.URL:
        try:
            joined = url.join(location)
        except (httpx2.InvalidURL, ValueError):
            raise AddressRefused("the server redirects to an invalid URL") from None
        if url.scheme == "https" and joined.scheme == "http" and not self.rules.trusts_urls:
            raise AddressRefused("the server redirects from https to http", Problem.NOT_HTTPS)
        return check_url(str(joined), self.rules)

    def _refuse_failures(self, response: httpcore2.Response, start: int) -> None:
        status = response.status
        answered = f"HTTP {status}"
        if status in (412, 416) and start:
            raise TransferError(Problem.CHANGED, "changed the file while it was fetched")
        if is_busy(status):
            wait_seconds = whole_number(_header(response, "retry-after")) or 0
            raise TransferError(Problem.UNAVAILABLE, f"answered {answered}", wait_seconds=wait_seconds)
        if status in (404, 410):
            raise TransferError(Problem.NOT_FOUND, answered)
        if status in REDIRECTS or status == 400:
            _refuse_wrong_region(response)
        if status in REDIRECTS:
            reason = f"redirects without saying where ({answered}); a new link is needed"
            raise TransferError(Problem.REFUSED, reason)
        if status in (400, 401, 403):  # stores say "expired" with any of these
            raise TransferError(Problem.LINK_REFUSED, answered)
        if status not in (200, 206):
            raise TransferError(Problem.REFUSED, f"refused the request ({answered})")
        encoding = _header(response, "content-encoding").lower()
        if encoding not in HARMLESS_ENCODINGS and not self.takes_encoded:
            raise TransferError(Problem.ENCODED, "sends the file compressed")


def _location(response: httpcore2.Response) -> str:
    """Where a redirect leads. Servers also send raw bytes, mostly UTF-8: each means what `%XX` would."""
    raw = _header(response, "location").encode("latin-1")
    try:
        return raw.decode()  # also in host names, which are not percent-encoded
    except UnicodeDecodeError:
        return quote(raw, safe=ASCII)


def _header(response: httpcore2.Response, wanted: str) -> str:
    """A header's value as Latin-1, which keeps every byte; "" if it is not there."""
    values = (value for name, value in response.headers if name.lower() == wanted.encode())
    return next(values, b"").strip().decode("latin-1")  # `str.strip` would take the end of a UTF-8 letter


def _version(response: httpcore2.Response, asked: str | None) -> str | None:
    """What promises equal bytes and can be sent back: a strong tag, else the time of the last change.

    A time does not count where a tag was asked for: some servers leave the tag out of a partial answer.
    """
    if tag := _header(response, "etag"):
        return tag if STRONG_TAG.fullmatch(tag) else None
    date = _header(response, "last-modified")
    return date if DATE.fullmatch(date) and not (asked or "").startswith('"') else None


def _refuse_wrong_region(response: httpcore2.Response) -> None:
    """S3 tells it by a redirect without a Location, or by a 400 whose words name the region."""
    words, end = b"", time.monotonic() + WORDS_SECONDS
    broken = httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException
    with contextlib.suppress(*broken):  # the status stays true
        for chunk in response.iter_stream():
            words += chunk
            if len(words) > MAX_ERROR_BYTES or time.monotonic() > end:
                break
    if response.status in REDIRECTS and (region := _header(response, "x-amz-bucket-region")):
        words += f"<Region>{region}</Region>".encode()
    if WRONG_REGION.search(words):
        named = REGION.search(words)
        where = f"its region, {named[1].decode()}," if named else "its region"
        raise TransferError(
            Problem.REFUSED,
            f"says that the bucket is in another region than the link says (HTTP {response.status}): "
            f"a new link, signed for {where} is needed",
        )


def whole_number(text: str | None) -> int | None:
    """The number that ASCII digits write; None for all else that `int` takes: signs, spaces, other digits."""
    return int(text) if text is not None and DIGITS.fullmatch(text) else None
