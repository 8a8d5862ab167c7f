"""An endpoint that answers what a test tells it, one answer after the other."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = int | dict[str, Any] | None


@dataclass(slots=True, kw_only=True)
class ScriptedEndpoint:
    """Where it listens, and which calls came: `GET status/j`."""

    url: str
    calls: list[str] = field(default_factory=list)


@contextmanager
def scripted_endpoint(*answers: Answer) -> Iterator[ScriptedEndpoint]:
    """Listen inside the block.

    Args:
        answers: in turn: a document, the status of a refusal, or None to hang up. The last one stays.
    """
    endpoint = ScriptedEndpoint(url="")
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            call = f"{self.command} {self.path.removeprefix('/v2/e/')}"
            if call == "GET health":
                return self._answer(200, {})
            endpoint.calls.append(call)
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer is None:
                return None
            if isinstance(answer, int):
                return self._answer(answer, {"error": "told to refuse"})
            return self._answer(200, answer)

        do_POST = do_GET

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint.url = f"http://127.0.0.1:{server.server_port}/v2/e"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield endpoint
        finally:
            server.shutdown()
            thread.join()
