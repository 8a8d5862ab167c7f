"""A RunPod REST v2 on loopback: every body is held to the published schema and the documented rules.

`rest_v2.schema.json` is the part of RunPod's OpenAPI document needed here; answers are held to it too.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA = json.loads((Path(__file__).parent / "rest_v2.schema.json").read_text())
KEY = "rpa_TESTKEY0123456789"
CARDS = {
    "NVIDIA GeForce RTX 4090": "ADA_24",
    "NVIDIA L4": "AMPERE_24",
    "NVIDIA RTX A5000": "AMPERE_24",
    "NVIDIA B200": None,
}
CONTAINER = {"image", "args", "disk", "env", "ports", "registry"}


def validator(name: str) -> Draft202012Validator:
    """Of one named part of RunPod's schema."""
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})


@dataclass(frozen=True, kw_only=True)
class Fault:
    """How one request is answered wrongly."""

    on: str  # the request, as a regular expression over `METHOD /path`
    status: int | None = None  # None: close the connection without an answer
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # instead of a problem document
    done: bool = False  # the request is carried out all the same
    errors: tuple[str, ...] = ()  # of the problem document


@dataclass
class FakeRest:
    """The account's state; tests look at it and change it as another person would in RunPod's console."""

    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)  # by id, as GET answers
    versions: dict[str, int] = field(default_factory=dict)  # release number by id
    stale_looks: int | None = 0  # at the releases that still see old workers after a change; None: always
    late_looks: int = 0  # that do not see the release of a change at all
    requests: list[tuple[str, Any]] = field(default_factory=list)  # `METHOD /path` and the body, in order
    agents: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)  # met by the first request that fits, each once
    forget: set[str] = field(default_factory=set)  # fields that a write does not take, though accepted
    url: str = ""
    looks_left: int | None = 0
    late_left: int = 0
    _next: int = 1

    def writes(self) -> list[tuple[str, Any]]:
        """Requests that were meant to change something."""
        return [request for request in self.requests if not request[0].startswith("GET")]

    def only(self) -> dict[str, Any]:
        """The one endpoint there is."""
        (endpoint,) = self.endpoints.values()
        return endpoint

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Status and document."""
        one = re.fullmatch(r"/v2/serverless/([^/]+)(/releases|/workers)?", path)
        if one and one[1] not in self.endpoints:
            return problem(404, "endpoint not found")
        match method, path, one:
            case "GET", "/v2/serverless", None:
                return 200, {"endpoints": list(self.endpoints.values())}
            case "POST", "/v2/serverless", None:
                return self._create(body)
            case "GET", "/v2/catalog/gpus", None:
                return 200, {"gpus": [card(name, pool) for name, pool in CARDS.items()]}
            case "GET", _, re.Match() if one[2] == "/releases":
                return 200, self._releases(one[1])
            case "GET", _, re.Match() if one[2] == "/workers":
                return 200, self._workers(one[1])
            case "GET", _, re.Match():
                return 200, self.endpoints[one[1]]
            case "PATCH", _, re.Match():
                return self._update(one[1], body)
            case "DELETE", _, re.Match():
                del self.endpoints[one[1]]
                return 204, None
        return problem(405, "not a route of this fake")

    def _create(self, body: Any) -> tuple[int, Any]:
        if errors := [error.message for error in validator("CreateEndpointRequest").iter_errors(body)]:
            return problem(422, "Request validation failed.", errors)
        if "gpu" not in body:
            return problem(400, "exactly one of gpu and cpu")
        endpoint_id = f"ep{self._next:06d}"
        self._next += 1
        endpoint = {
            **{"id": endpoint_id, "createdAt": "2026-09-01T12:00:00Z"},
            "requestUrls": request_urls(endpoint_id),
            **{"args": "", "disk": 20, "ports": [], "env": {}, "registry": None, "timeout": 300_000},
            **{"dataCenterIds": [], "networkVolumes": [], "flashboot": "OFF"},
            **body,
            "gpu": {"count": 1, "allowedCudaVersions": [], "minCudaVersion": None, **body["gpu"]},
            "workers": {"min": 0, "max": 3, **body.get("workers", {})},
        }
        if refused := broken_rule(endpoint):
            return refused
        if endpoint["scaling"]["type"] == "QUEUE_DELAY":
            endpoint["workers"].setdefault("idleTimeout", 10)
        self.endpoints[endpoint_id] = endpoint
        self.versions[endpoint_id] = 1
        return 201, endpoint

    def _update(self, endpoint_id: str, body: Any) -> tuple[int, Any]:
        if errors := [error.message for error in validator("UpdateEndpointRequest").iter_errors(body)]:
            return problem(422, "Request validation failed.", errors)
        old = self.endpoints[endpoint_id]
        body = {name: value for name, value in body.items() if name not in self.forget}
        gpu = dict(old["gpu"])
        if "pools" in body.get("gpu", {}):
            gpu.pop("excludedTypes", None)
        gpu |= body.get("gpu", {})
        gpu["minCudaVersion"] = gpu["minCudaVersion"] or None
        endpoint = {**old, **body, "gpu": gpu, "workers": {**old["workers"], **body.get("workers", {})}}
        if endpoint["scaling"]["type"] == "REQUEST_COUNT" and "idleTimeout" not in body.get("workers", {}):
            endpoint["workers"].pop("idleTimeout", None)
        if refused := broken_rule(endpoint):
            return refused
        self.endpoints[endpoint_id] = endpoint
        if body.keys() & CONTAINER:
            self.versions[endpoint_id] += 1
            self.looks_left, self.late_left = self.stale_looks, self.late_looks
        return 200, endpoint

    def _releases(self, endpoint_id: str) -> dict[str, Any]:
        late = self.late_left > 0
        stale = not late and (self.looks_left is None or self.looks_left > 0)
        if late:
            self.late_left -= 1
        elif self.looks_left:
            self.looks_left -= 1
        rollout = {"inProgress": stale, "workersOnLatest": 2 - stale, "workersTotal": 2}
        rollout["percentOnLatest"] = 50 if stale else 100
        return {"endpointVersion": self.versions[endpoint_id] - late, "rollout": rollout, "releases": []}

    def _workers(self, endpoint_id: str) -> dict[str, Any]:
        worker = {"id": "w1", "status": "RUNNING", "gpuCount": 1, "isStale": False}
        counts = {"running": 1, "idle": 0, "initializing": 0, "throttled": 0, "unhealthy": 0, "total": 1}
        return {"workers": [worker], "summary": counts, "endpointVersion": self.versions[endpoint_id]}


def problem(status: int, detail: str, errors: list[str] | None = None) -> tuple[int, Any]:
    """An RFC 9457 document as RunPod writes it."""
    titles = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 422: "Unprocessable Entity"}
    document: dict[str, Any] = {"title": titles.get(status, "Error"), "status": status, "detail": detail}
    return status, document | ({"errors": errors} if errors else {})


def broken_rule(endpoint: dict[str, Any]) -> tuple[int, Any] | None:
    """What RunPod refuses beyond its schema."""
    gpu = endpoint["gpu"]
    if gpu["minCudaVersion"] and gpu["allowedCudaVersions"]:
        return problem(400, "minCudaVersion and allowedCudaVersions are mutually exclusive")
    if endpoint["scaling"]["type"] == "REQUEST_COUNT" and "idleTimeout" in endpoint["workers"]:
        return problem(400, "idleTimeout does not apply to queue endpoints scaling on request count")
    if not set(gpu["pools"]) <= set(CARDS.values()):
        return problem(400, "unknown pool")
    if any(CARDS.get(name) not in gpu["pools"] for name in gpu.get("excludedTypes", ())):
        return problem(400, "excludedTypes not in pools")
    return None


def card(name: str, pool: str | None) -> dict[str, Any]:
    """One entry of the catalogue."""
    price = {"secure": 0.5, "community": 0.4, "serverless": 1.1}
    available = {"secure": True, "community": False, "maxCount": {"secure": 8, "community": 0}}
    return {
        **{"id": name, "name": name, "pool": pool, "manufacturer": "NVIDIA", "memory": 24, "price": price},
        **available,
    }


def request_urls(endpoint_id: str) -> dict[str, str]:
    """Where jobs go."""
    base = f"https://api.runpod.ai/v2/{endpoint_id}"
    by_id = {use: f"{base}/{use}/{{job_id}}" for use in ("status", "stream", "cancel", "retry")}
    whole = {"run": "run", "runSync": "runsync", "purgeQueue": "purge-queue", "health": "health"}
    return by_id | {use: f"{base}/{path}" for use, path in whole.items()}


@contextmanager
def serving(fake: FakeRest) -> Iterator[FakeRest]:
    """`fake` on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            what = f"{self.command} {self.path}"
            fake.requests.append((what, body))
            fake.agents.add(self.headers["User-Agent"])
            fault = next((fault for fault in fake.faults if re.search(fault.on, what)), None)
            headers: dict[str, str] = {}
            if self.headers["Authorization"] != f"Bearer {KEY}":
                status, document = problem(401, "invalid bearer token")
            elif fault is None:
                status, document = fake.answer(self.command, self.path, body)
            else:
                fake.faults.remove(fault)
                if fault.done:
                    fake.answer(self.command, self.path, body)
                if fault.status is None:
                    self.close_connection = True
                    return
                headers = fault.headers
                status, document = problem(fault.status, "made to fail", list(fault.errors))
                if fault.body is not None:
                    self._send(status, fault.body, headers)
                    return
            check_answer(self.command, self.path, status, document)
            self._send(status, b"" if document is None else json.dumps(document).encode(), headers)

        do_GET = do_POST = do_PATCH = do_DELETE = _reply

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}/v2"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def check_answer(method: str, path: str, status: int, document: Any) -> None:
    """This fake speaks as RunPod's document says; a mistake here ends the connection without an answer."""
    parts = {"/releases": "ListEndpointReleasesResponse", "/workers": "ListEndpointWorkersResponse"}
    parts |= {"/gpus": "ListGpuTypesResponse"}
    if status == 204:
        return
    name = "ErrorResponse" if status >= 400 else parts.get(path[path.rindex("/") :], "Endpoint")
    listed = name == "Endpoint" and "endpoints" in document
    for part in document["endpoints"] if listed else [document]:
        validator(name).validate(part)
