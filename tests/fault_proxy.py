"""A proxy on loopback that does to a connection what networks and servers do.

with fault_proxy(s3.endpoint_url) as proxy:
proxy.fault = Cut(after_bytes=100_000, times=1)
...through proxy.url, the first connection breaks after 100 kB sent
"""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

CHUNK_BYTES = 16 * 1024
FOREVER = 1_000_000


@dataclass
class Fault:
    """Something that happens to the first `times` connections."""

    times: int = FOREVER


@dataclass
class Cut(Fault):
    """The connection is reset when so many bytes have been sent."""

    after_bytes: int = 0


@dataclass
class Stall(Fault):
    """Nothing moves any more when so many bytes have been sent."""

    after_bytes: int = 0


@dataclass
class Slow(Fault):
    """Bytes sent crawl."""

    bytes_per_second: int = 100_000


@dataclass
class Answer(Fault):
    """The proxy answers itself, after the whole request has come."""

    status: int = 503
    body: Iterable[bytes] | None = None  # what follows the head, as long as the client takes it
    early: bool = False  # answer as soon as the request's head is there, take nothing more, and wait
    closing: bool = False  # with `early`: close at once instead


@dataclass
class AnswerTo(Fault):
    """Some requests get another answer than the server's, or none; the connection ends with it."""

    request: bytes = b""  # a regular expression for the request's first line, e.g. `b"^PUT "`
    status: int | None = None  # what is answered; None: nothing
    is_done: bool = (
        True  # the server gets the request and does what it says; if not, None is silence, not an end
    )
    code: str = ""  # S3's name of the error, if the answer has one


@dataclass
class FaultProxy:
    """The proxy's address, its fault, and what it saw."""

    url: str  # `http://127.0.0.1:PORT`
    fault: Fault | None = None  # what happens to new connections; None lets everything pass
    heads: list[bytes] = field(default_factory=list)  # of the first request of each connection
    num_connections: int = 0  # so far
    num_body_bytes: int = 0  # sent in answers of its own
    clients: list[socket.socket] = field(default_factory=list)

    def begin(self, fault: Fault) -> None:
        """From now on this happens: connections that are kept alive end, the next ones meet the fault."""
        self.fault = fault
        for client in self.clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


@contextmanager
def fault_proxy(target_url: str) -> Iterator[FaultProxy]:
    """Listen on a free loopback port in front of `http://HOST:PORT`; ends every connection at the end."""
    host, port = target_url.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = FaultProxy(url=f"http://127.0.0.1:{listener.getsockname()[1]}")
    ended = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while not ended.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            proxy.num_connections += 1
            proxy.clients.append(client)
            fault = proxy.fault
            if fault is not None:
                fault.times -= 1
                fault = fault if fault.times >= 0 else None
            work = threading.Thread(target=_serve, args=(client, (host, int(port)), proxy, fault, ended))
            threads.append(work)
            work.start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield proxy
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [acceptor, *threads]:
            thread.join(10)


def _serve(
    client: socket.socket,
    target: tuple[str, int],
    proxy: FaultProxy,
    fault: Fault | None,
    ended: threading.Event,
) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(0.1)
        head = _read_head(client, ended)
        proxy.heads.append(head.partition(b"\r\n\r\n")[0])
        if isinstance(fault, Answer):
            if fault.early:
                _send_head(client, fault)
                if not fault.closing:
                    ended.wait()
                return
            _take_request(client, head, ended)
            _send_head(client, fault)
            for chunk in fault.body or ():
                client.sendall(chunk)
                proxy.num_body_bytes += len(chunk)
            return
        with socket.create_connection(target) as server:
            server.settimeout(0.1)
            matched = threading.Event()
            back = threading.Thread(target=_pump_back, args=(server, client, fault, matched, ended))
            back.start()
            _pump(client, server, head, fault, matched, ended)
            back.join(10)


def _pump(
    client: socket.socket,
    server: socket.socket,
    head: bytes,
    fault: Fault | None,
    matched: threading.Event,
    ended: threading.Event,
) -> None:
    sent, data = 0, head
    while not ended.is_set():
        if data:
            if isinstance(fault, AnswerTo) and re.search(fault.request, data.partition(b"\r\n")[0]):
                matched.set()
                if not fault.is_done:
                    _take_request(client, data, ended)
                    if fault.status is None:
                        ended.wait()
                    else:
                        _send_head(client, fault)
                    break
            if isinstance(fault, Cut) and sent + len(data) > fault.after_bytes:
                reset_when_closed = b"\1\0\0\0\0\0\0\0"
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_when_closed)
                break
            if isinstance(fault, Stall) and sent + len(data) > fault.after_bytes:
                ended.wait()
                break
            if isinstance(fault, Slow):
                time.sleep(len(data) / fault.bytes_per_second)
            server.sendall(data)
            sent += len(data)
        data = _receive(client)
        if data is None:
            break
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def _pump_back(
    server: socket.socket,
    client: socket.socket,
    fault: Fault | None,
    matched: threading.Event,
    ended: threading.Event,
) -> None:
    with contextlib.suppress(OSError):
        while not ended.is_set() and (data := _receive(server)) is not None:
            if data and matched.is_set() and not data.startswith(b"HTTP/1.1 100"):
                assert isinstance(fault, AnswerTo)
                if fault.status is not None:
                    _send_head(client, fault)
                client.shutdown(socket.SHUT_RDWR)
                break
            client.sendall(data)


def _receive(connection: socket.socket) -> bytes | None:
    """The next bytes, none if there are none yet, None at the end."""
    try:
        return connection.recv(CHUNK_BYTES) or None
    except TimeoutError:
        return b""


def _read_head(client: socket.socket, ended: threading.Event) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and not ended.is_set():
        data = _receive(client)
        if data is None:
            break
        head += data
    return head


def _take_request(client: socket.socket, head: bytes, ended: threading.Event) -> None:
    """Take the body in, as servers do."""
    lines, _, body = head.partition(b"\r\n\r\n")
    length = 0
    for line in lines.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
        if line == b"expect: 100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    received = len(body)
    while received < length and not ended.is_set():
        data = _receive(client)
        if data is None:
            return
        received += len(data)


def _send_head(client: socket.socket, fault: Answer | AnswerTo) -> None:
    body = b""
    if isinstance(fault, AnswerTo) and fault.code:
        body = f"<Error><Code>{fault.code}</Code></Error>".encode()
    length = b"" if isinstance(fault, Answer) and fault.body else b"Content-Length: %d\r\n" % len(body)
    head = b"HTTP/1.1 %d Fault\r\n%bConnection: close\r\n\r\n" % (fault.status, length)
    client.sendall(head + body)
