"""Weight files over HTTPS: redirects, ranges, what each answer means. Knows nothing of retries or files."""

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import httpx2

from ops.weights.answers import Answer, Ask, Changed, Complete, SourceFailed, TryAgain
from ops.weights.settings import WeightSettings

MAX_REDIRECTS = 6  # a hub's file is behind two
LATER = {408, 425, 429}
_LENGTH = re.compile(
    r"[0-9]{1,20}"
)  # `\d` and `isdigit` know more digits than `int`, which bounds their number
_SPAN = re.compile(r"bytes ([0-9]{1,20})-[0-9]{1,20}/([0-9]{1,20}|\*)")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def https_client(settings: WeightSettings) -> httpx2.Client:
    """A client that trusts the usual authorities, and the operator's."""
    context = ssl.create_default_context()
    if settings.ca_file:
        context.load_verify_locations(settings.ca_file)
    seconds = httpx2.Timeout(settings.read_seconds, connect=settings.connect_seconds)
    return httpx2.Client(verify=context, timeout=seconds, follow_redirects=False)


def ask_http(client: httpx2.Client, address: str, *, allow_http: bool) -> Ask:
    """How to ask for the file at `address`."""
    return partial(_answered, client, address, allow_http)


@contextmanager
def _answered(
    client: httpx2.Client, address: str, allow_http: bool, place: int, version: str | None
) -> Iterator[Answer]:
    headers = {"Accept-Encoding": "identity", "User-Agent": "hmr2-phalp-worker"}
    if place and version:
        headers |= {"Range": f"bytes={place}-", "If-Range": version}
    revision = None
    with _translated():
        for _ in range(MAX_REDIRECTS + 1):
            _check_scheme(address, allow_http)
            with client.stream("GET", address, headers=headers) as response:
                revision = revision or _revision(response)
                if response.next_request is None:
                    yield _answer(response, place, revision)
                    return
                address = str(response.next_request.url)
    raise SourceFailed(f"redirects more than {MAX_REDIRECTS} times")


def _check_scheme(address: str, allow_http: bool) -> None:
    if not address.startswith("https://") and not (allow_http and address.startswith("http://")):
        raise SourceFailed("leads to an address that is not https (WEIGHTS_ALLOW_HTTP=true accepts http)")


def _answer(response: httpx2.Response, place: int, revision: str | None) -> Answer:
    _refuse_failures(response, place)
    span = _SPAN.fullmatch(response.headers.get("content-range", ""))
    length = response.headers.get("content-length", "")
    start, total = 0, int(length) if _LENGTH.fullmatch(length) else None
    if response.status_code == 206:
        if span is None or int(span[1]) != place:
            raise Changed("the server sent another part than was asked for")
        start, total = place, None if span[2] == "*" else int(span[2])
    # Without either, nobody could tell whether the rest still belongs to the part that is here.
    version = response.headers.get("etag") or response.headers.get("last-modified")
    if version and (version.startswith("W/") or not version.isascii()):  # the latter cannot be sent back
        version = None
    return Answer(
        start=start,
        total=total,
        version=version,
        revision=revision,
        # Raw: some servers call a .tar.gz a tar with the content coding gzip, and it must stay as it is.
        # And in pieces as they come: what is gathered for a larger one would be lost with the connection.
        chunks=response.iter_raw(),
    )


def _refuse_failures(response: httpx2.Response, place: int) -> None:
    status = response.status_code
    if status == 416 and place:
        if response.headers.get("content-range") == f"bytes */{place}":
            raise Complete
        raise Changed("the file changed")
    if status >= 500 or status in LATER:
        raise TryAgain(f"answered HTTP {status}")
    if status in (404, 410):
        raise SourceFailed(f"has no such file (HTTP {status})")
    if status in (400, 401, 403):
        raise SourceFailed(f"refused (HTTP {status}): expired, not public, or moved")
    if status not in (200, 206):
        raise SourceFailed(f"answered HTTP {status}")


def _revision(response: httpx2.Response) -> str | None:
    commit = response.headers.get("x-repo-commit", "")
    return commit if _COMMIT.fullmatch(commit) else None


@contextmanager
def _translated() -> Iterator[None]:
    """httpx2's errors as ours. Its messages stay behind: they may hold the address."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise TryAgain("fell silent") from error
    except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, UnicodeError) as error:  # the last: of host names
        raise SourceFailed("is not an address that can be fetched") from error
    except httpx2.TransportError as error:
        if _is_certificate_error(error):
            raise SourceFailed(
                "has a certificate that is not trusted (WEIGHTS_CA_FILE names one more authority)"
            ) from error
        connecting = isinstance(error, httpx2.ConnectError)
        raise TryAgain("cannot be reached" if connecting else "broke off") from error


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
