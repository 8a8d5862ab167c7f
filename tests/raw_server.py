"""A loopback server that answers with bytes as they are, HTTP or not."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.fault_proxy import listening


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
    server = RawServer(port=0, answers=list(answers))

    def serve(connection: socket.socket) -> None:
        connection.settimeout(5)
        head = b""
        while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
            head += data
        if head:
            server.requests.append(head)
            connection.sendall(server.answers.pop(0) if len(server.answers) > 1 else server.answers[0])

    with listening(serve) as server.port:
        yield server
