"""A proxy on loopback that does to a connection what networks and servers do.

with fault_proxy(s3.endpoint_url) as proxy:
    proxy.fault = Cut(after_bytes=100_000, times=1)
    ...  # through proxy.url, the first connection breaks after 100 kB sent
"""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
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
    is_done: bool = True  # the server does what the request says; if not, None is silence, not an end
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
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each connection in a thread of its own, inside the block; gives the port on 127.0.0.1."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def begin(work: Callable[..., None], *arguments: object) -> None:
        threads.append(threading.Thread(target=work, args=arguments, name="test-server"))
        threads[-1].start()

    def accept() -> None:
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                begin(answer, listener.accept()[0])

    def answer(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            serve(client)

    begin(accept)
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in threads:
            thread.join(10)


@contextmanager
def fault_proxy(target_url: str) -> Iterator[FaultProxy]:
    """Listen on a free loopback port in front of `http://HOST:PORT`; ends every connection at the end."""
    host, port = target_url.removeprefix("http://").split(":")
    proxy, ended, lock = FaultProxy(url=""), threading.Event(), threading.Lock()

    def serve(client: socket.socket) -> None:
        with lock:
            proxy.num_connections += 1
            proxy.clients.append(client)
            if fault := proxy.fault:
                fault.times -= 1
                fault = fault if fault.times >= 0 else None
        _Connection(client, proxy, fault, ended).serve((host, int(port)))

    with listening(serve) as own_port:
        proxy.url = f"http://127.0.0.1:{own_port}"
        try:
            yield proxy
        finally:
            ended.set()


@dataclass
class _Connection:
    """A client's connection, and what happens to it."""

    client: socket.socket
    proxy: FaultProxy
    fault: Fault | None
    ended: threading.Event
    matched: threading.Event = field(default_factory=threading.Event)  # the server has a request of AnswerTo

    def serve(self, target: tuple[str, int]) -> None:
        self.client.settimeout(0.1)
        head = self._read_head()
        self.proxy.heads.append(head.partition(b"\r\n\r\n")[0])
        if isinstance(self.fault, Answer):
            self._answer(self.fault, head)
            return
        with socket.create_connection(target) as server:
            server.settimeout(0.1)
            back = threading.Thread(target=self._pump_back, args=(server,), name="test-server")
            back.start()
            self._pump(server, head)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            back.join(10)

    def _answer(self, fault: Answer, head: bytes) -> None:
        if not fault.early:
            self._take_request(head)
        self._send_head(fault)
        if fault.early and not fault.closing:
            self.ended.wait()
        for chunk in fault.body or ():
            self.client.sendall(chunk)
            self.proxy.num_body_bytes += len(chunk)

    def _pump(self, server: socket.socket, data: bytes | None) -> None:
        sent, fault = 0, self.fault
        while data is not None and not self.ended.is_set():
            if data:
                if isinstance(fault, AnswerTo) and re.search(fault.request, data.partition(b"\r\n")[0]):
                    self.matched.set()
                    if not fault.is_done:
                        self._take_request(data)
                        if fault.status is None:
                            self.ended.wait()
                        else:
                            self._send_head(fault)
                        return
                if isinstance(fault, Cut | Stall) and sent + len(data) > fault.after_bytes:
                    if isinstance(fault, Stall):
                        self.ended.wait()
                    else:
                        reset_when_closed = b"\1\0\0\0\0\0\0\0"
                        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_when_closed)
                    return
                if isinstance(fault, Slow):
                    self.ended.wait(len(data) / fault.bytes_per_second)
                server.sendall(data)
                sent += len(data)
            data = _receive(self.client)

    def _pump_back(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not self.ended.is_set() and (data := _receive(server)) is not None:
                if data and self.matched.is_set() and not data.startswith(b"HTTP/1.1 100"):
                    assert isinstance(self.fault, AnswerTo)
                    if self.fault.status is not None:
                        self._send_head(self.fault)
                    self.client.shutdown(socket.SHUT_RDWR)
                    break
                self.client.sendall(data)

    def _read_head(self) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and not self.ended.is_set():
            if (data := _receive(self.client)) is None:
                break
            head += data
        return head

    def _take_request(self, head: bytes) -> None:
        """Take the body in, as servers do."""
        lines, _, body = head.lower().partition(b"\r\n\r\n")
        if b"\r\nexpect: 100-continue" in lines:
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", lines)
        missing = int(length[1]) - len(body) if length else 0
        while missing > 0 and not self.ended.is_set():
            if (data := _receive(self.client)) is None:
                return
            missing -= len(data)

    def _send_head(self, fault: Answer | AnswerTo) -> None:
        body = b""
        if isinstance(fault, AnswerTo) and fault.code:
            body = f"<Error><Code>{fault.code}</Code></Error>".encode()
        length = b"" if isinstance(fault, Answer) and fault.body else b"Content-Length: %d\r\n" % len(body)
        head = b"HTTP/1.1 %d Fault\r\n%bConnection: close\r\n\r\n" % (fault.status, length)
        self.client.sendall(head + body)


def _receive(connection: socket.socket) -> bytes | None:
    """The next bytes, none if there are none yet, None at the end."""
    try:
        return connection.recv(CHUNK_BYTES) or None
    except TimeoutError:
        return b""
