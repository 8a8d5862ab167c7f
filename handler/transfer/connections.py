"""HTTP connections that reach only allowed addresses and can be ended at any moment.

The check sits where the socket is opened: the host is resolved once, every address is checked, and the
connection goes to a checked address. So a name that resolves differently a second later gains nothing, and
the TLS name and Host header stay the URL's own. Proxies in the environment are used for an operator's own
URLs only: where a connection ends behind one cannot be checked.
"""

import contextlib
import math
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes
from urllib.request import getproxies, proxy_bypass

import httpcore2
import httpx2

from handler.context import Check
from handler.settings import BucketSettings, IntakeSettings
from handler.transfer.addresses import allowed_addresses
from handler.transfer.errors import Problem, TransferError, http_errors_translated

SLICE_SECONDS = 0.25  # how late a cancel or a deadline is noticed while the other side is silent
WRITE_BYTES = 64 * 1024  # between two checks while sending
CONNECT_SECONDS = 10.0  # where the caller sets no limit

Headers = dict[bytes | str, bytes | str]


@contextlib.contextmanager
def requested(
    method: str,
    url: httpx2.URL,
    headers: Headers,
    *,
    rules: IntakeSettings,
    limits: IntakeSettings | BucketSettings,
    check: Check,
    content: bytes | Iterator[bytes] | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Iterator[httpcore2.Response]:
    """One request and the head of its answer, on a connection of its own; redirects are not followed.

    `url` is from `check_url`, `rules` say which addresses are allowed, `limits` how long a connection and
    silence may take. `check` is called before every network operation and while waiting; what it raises comes
    out. By default the usual certificate authorities are trusted, SSL_CERT_FILE respected.

    Raises:
        TransferError: ADDRESS_REFUSED, NOT_TRUSTED, UNAVAILABLE; also while the body is read.
    """
    headers = {"Host": url.netloc, "User-Agent": "hmr2-phalp-worker", **headers}
    if url.userinfo:  # of the operator's own URLs alone
        headers["Authorization"] = b"Basic " + b64encode(unquote_to_bytes(url.userinfo))
    seconds = dict.fromkeys(("connect", "pool"), limits.connect_seconds)
    seconds |= dict.fromkeys(("read", "write"), limits.read_seconds)
    with (
        http_errors_translated(),
        httpcore2.ConnectionPool(
            ssl_context=ssl_context or httpcore2.default_ssl_context(),
            proxy=_proxy(url) if rules.trusts_urls else None,
            max_connections=1,
            network_backend=_CheckedBackend(rules, check),
        ) as pool,
        pool.stream(
            method, _as_target(url), headers=headers, content=content, extensions={"timeout": seconds}
        ) as response,
    ):
        yield response


def _proxy(url: httpx2.URL) -> httpcore2.Proxy | None:
    """What the environment names (HTTPS_PROXY, NO_PROXY and so on), as for other tools."""
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or proxy_bypass(url.host):
        return None
    proxy = httpx2.Proxy(address if "://" in address else f"http://{address}")
    return httpcore2.Proxy(_as_target(proxy.url), auth=proxy.raw_auth)


def _as_target(url: httpx2.URL) -> httpcore2.URL:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


class _CheckedBackend(httpcore2.NetworkBackend):
    """Opens sockets to checked addresses only."""

    def __init__(self, rules: IntakeSettings, check: Check) -> None:
        self._rules = rules
        self._check = check
        self._sockets = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connect to the first address of `host` that answers; `timeout` holds for all of them together."""
        self._check()
        try:
            addresses = allowed_addresses(host, port, self._rules)
        except OSError as error:
            if error.errno == socket.EAI_NONAME:
                raise TransferError(Problem.HOST_UNKNOWN, "has a host name that does not exist") from error
            raise TransferError(Problem.UNAVAILABLE, "has a host name that cannot be looked up") from error
        deadline = time.monotonic() + (timeout or CONNECT_SECONDS)
        failure: Exception = httpcore2.ConnectError("no address")
        for position, address in enumerate(addresses):
            self._check()
            share = (deadline - time.monotonic()) / (len(addresses) - position)
            if share <= 0:
                break
            try:
                stream = self._sockets.connect_tcp(address, port, share, local_address, socket_options or [])
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _CheckedStream(stream, self._check)
        raise failure


class _CheckedStream(httpcore2.NetworkStream):
    """A socket that asks `check` while it waits for data."""

    def __init__(self, stream: httpcore2.NetworkStream, check: Check) -> None:
        self._stream = stream
        self._check = check

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while True:
            self._check()
            left = deadline - time.monotonic()
            try:
                return self._stream.read(max_bytes, max(min(left, SLICE_SECONDS), 0.001))
            except httpcore2.ReadTimeout:
                if left <= SLICE_SECONDS:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            for start in range(0, len(buffer), WRITE_BYTES):
                self._check()
                self._stream.write(buffer[start : start + WRITE_BYTES], timeout)
        except httpcore2.WriteTimeout as error:
            # The server may have answered already; httpcore reads that only after a WriteError.
            raise httpcore2.WriteError("the other side takes nothing more") from error

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        self._check()
        return _CheckedStream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._check)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
