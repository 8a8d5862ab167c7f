"""A loopback HTTP or HTTPS server that serves files with every fault a download can meet.

Faults are given per request: the first request to a file meets the first
fault, and so on; when they are used up the file is served as it should be.
"""

import contextlib
import datetime
import hashlib
import ipaddress
import re
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHUNK = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How one request is answered wrongly; what is not set is as it should be."""

    status: int | None = None  # answer with this status, `headers` and no more than a word
    headers: dict[str, str] = field(default_factory=dict)  # extra or replaced
    redirect: str | None = None  # answer 302 to this URL
    cut_after: int | None = None  # close the connection after so many body bytes
    reset: bool = False  # with `cut_after`, close it rudely (RST)
    stall_after: int | None = None  # fall silent after so many body bytes, connection open
    silent: bool = False  # never answer
    bytes_per_second: float | None = None  # send slowly
    slow_head: bool = False  # the head, too
    declared_length: int | None = None  # a Content-Length that is not the file's
    no_length: bool = False  # no Content-Length; the end is where the connection closes
    chunked: bool = False  # no Content-Length; chunked coding
    ignore_range: bool = False  # answer a range with the whole file
    ignore_if_range: bool = False  # answer a range with a part of whatever version is there
    range_status: int = 206  # of an answer to a range
    data: bytes | None = None  # serve these bytes instead, with their own ETag
    etag: str | None = None  # claim this ETag; "" = none


@dataclass(frozen=True)
class SeenRequest:
    """A request as it arrived; `headers` have lower-case names."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class _Served:
    data: bytes
    faults: list[Fault]
    always: Fault | None


class HttpSource:
    """The server; a context manager that leaves no thread and no socket behind."""

    def __init__(self, *, tls: bool = False) -> None:
        self.requests: list[SeenRequest] = []  # what arrived, in order
        self.ssl_context: ssl.SSLContext | None = None  # for clients: trusts the server's certificate
        self._files: dict[str, _Served] = {}
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.source = self
        if tls:
            server_context, self.ssl_context = _tls_contexts()
            self._server.socket = server_context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="http-source")

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def url(self, path: str, *, host: str = "127.0.0.1") -> str:
        """The URL of a path, which may hold a query."""
        return f"{self._scheme}://{host}:{self.port}/{path.lstrip('/')}"

    def add(self, path: str, data: bytes | Path, *faults: Fault, always: Fault | None = None) -> str:
        """Serve `data` under `path` and return its URL; `always` holds after the faults are used up."""
        content = data.read_bytes() if isinstance(data, Path) else data
        self._files["/" + path.lstrip("/")] = _Served(content, list(faults), always)
        return self.url(path)

    def take(self, path: str) -> tuple[_Served | None, Fault]:
        """The file under a path and the fault of this request."""
        with self._lock:
            served = self._files.get(path)
            if served is None:
                return None, Fault(status=404)
            return served, served.faults.pop(0) if served.faults else served.always or Fault()

    def __enter__(self) -> "HttpSource":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()  # joins the requests' threads
        self._thread.join()


class _Server(ThreadingHTTPServer):
    source: HttpSource
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, or a TLS handshake that fails, is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 20  # an idle keep-alive connection must not hold up server_close()

    def log_message(self, *_: object) -> None:
        """Tests read `requests`, not a log."""

    def do_GET(self) -> None:
        source = self.server.source
        self._note(source)
        served, fault = source.take(self.path.partition("?")[0])
        self.close_connection = True
        if fault.silent:
            source.stopping.wait(30)
        elif fault.redirect is not None:
            self._head(302, {"Location": fault.redirect, "Content-Length": "0"}, fault)
        elif fault.status is not None or served is None:
            self._head(fault.status or 404, {"Content-Length": "2"}, fault)
            self.wfile.write(b"no")
        else:
            self._serve(served.data if fault.data is None else fault.data, fault)

    def do_PUT(self) -> None:
        """Take a file in, and keep nothing of it."""
        self._note(self.server.source)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection = True
        self._head(200, {"Content-Length": "0"}, Fault())

    def _note(self, source: HttpSource) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        source.requests.append(SeenRequest(self.command, self.path, headers))

    def _serve(self, data: bytes, fault: Fault) -> None:
        etag = f'"{hashlib.md5(data).hexdigest()}"' if fault.etag is None else fault.etag
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = fault.ignore_if_range or self.headers.get("If-Range", etag) == etag
        if asked and same and not fault.ignore_range:
            start, status = int(asked[1]), fault.range_status
        if start >= len(data) > 0:
            self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"}, fault)
            return
        body = data[start:]
        headers = {"Content-Type": "video/mp4", "Accept-Ranges": "bytes"}
        if etag:
            headers["ETag"] = etag
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if fault.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif not fault.no_length:
            declared = len(body) if fault.declared_length is None else fault.declared_length
            headers["Content-Length"] = str(declared)
        self._head(status, headers, fault)
        self._body(body, fault)

    def _head(self, status: int, headers: dict[str, str], fault: Fault) -> None:
        lines = [f"HTTP/1.1 {status} x", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in (headers | fault.headers).items()]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        self._send(head, fault.bytes_per_second if fault.slow_head else None)

    def _body(self, body: bytes, fault: Fault) -> None:
        end = min(len(body), *(n for n in (fault.cut_after, fault.stall_after, len(body)) if n is not None))
        if fault.chunked:
            for start in range(0, end, CHUNK):
                piece = body[start : min(start + CHUNK, end)]
                self._send(b"%x\r\n%s\r\n" % (len(piece), piece), fault.bytes_per_second)
            if end == len(body):
                self._send(b"0\r\n\r\n", None)
        else:
            self._send(body[:end], fault.bytes_per_second)
        if fault.stall_after is not None:
            self.server.source.stopping.wait(30)
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send(self, data: bytes, bytes_per_second: float | None) -> None:
        if bytes_per_second is None:
            self.wfile.write(data)
            return
        step = max(1, int(bytes_per_second / 20))
        for start in range(0, len(data), step):
            self.wfile.write(data[start : start + step])
            if self.server.source.stopping.wait(step / bytes_per_second):
                return


def _tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a fresh certificate for localhost, and a client's that trusts it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.DNSName("videos.example")]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([*names, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = certificate.public_bytes(serialization.Encoding.PEM)
        file.write_bytes(private + public)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=public.decode())


@contextlib.contextmanager
def http_source(*, tls: bool = False) -> Iterator[HttpSource]:
    """A running server."""
    with HttpSource(tls=tls) as source:
        yield source
