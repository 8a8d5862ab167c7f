"""A loopback server that answers with bytes as they are, HTTP or not."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class RawServer:
    """The server's port on 127.0.0.1, what it answers, and what it was asked."""

    port: int
    answers: list[bytes] = field(default_factory=list, repr=False)  # in turn; the last one stays
    requests: list[bytes] = field(default_factory=list, repr=False)  # their heads, as they came

    @property
    def url(self) -> str:
        """The URL of its root."""
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def raw_server(*answers: bytes) -> Iterator[RawServer]:
    """Listen on a free port inside the block; every connection is closed behind its answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = RawServer(port=listener.getsockname()[1], answers=list(answers))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                    head += data
                if head:
                    server.requests.append(head)
                    connection.sendall(
                        server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                    )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
