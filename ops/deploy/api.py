"""RunPod's REST API v2 and its answers, as far as an endpoint needs them.

https://docs.runpod.io/api-reference-v2: errors are RFC 9457 documents; 429 comes with Retry-After and
RateLimit headers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import httpx2
import stamina
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from handler.transfer.http import whole_number
from ops.deploy import DeployError
from ops.deploy.settings import DeploySettings

USER_AGENT = "hmr2-phalp-worker-deploy/1"  # RunPod is reported to block the defaults of some libraries
MAX_SHOWN_ERRORS = 10
_KEY = re.compile(r"[!-~]+")  # others cannot be in a header

# RateLimit: "minute";r=0;t=12, "hour";r=2800;t=1812   (r: requests left, t: seconds until more)
_QUOTA = re.compile(r";\s*r=(?P<left>[0-9]{1,20});\s*t=(?P<seconds>[0-9]{1,20})")

A = TypeVar("A")


class ApiError(DeployError):
    """RunPod's REST API refused, or gave no proper answer."""

    def __init__(self, message: str, *, status: int | None = None, wait_seconds: float | None = None) -> None:
        super().__init__(message)
        self.status = status  # of HTTP; None if there was no answer
        self.wait_seconds = wait_seconds  # until the quota is free again, if the API says so

    @property
    def unsettled(self) -> bool:
        """Whether the request may have been carried out all the same."""
        return self.status is None or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR


class Answer(BaseModel):
    """Part of an answer: unknown keys are RunPod's business, values are never repeated in errors."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=to_camel, hide_input_in_errors=True
    )


class LiveGpu(Answer):
    """The cards of an endpoint."""

    pools: tuple[str, ...]
    excluded_types: tuple[str, ...] = ()
    count: int = 1
    min_cuda_version: str | None = None
    allowed_cuda_versions: tuple[str, ...] = ()


class LiveWorkers(Answer):
    """The bounds of an endpoint's workers."""

    min: int
    max: int
    idle_timeout: int | None = None  # left out for REQUEST_COUNT


class NamedEndpoint(Answer):
    """One of the account's endpoints, which may be of any kind and age."""

    id: str
    name: str


class LiveEndpoint(NamedEndpoint):
    """An endpoint as it is. `gpu` is None for an endpoint on CPUs."""

    type: str | None = None
    image: str | None = None
    args: str = ""
    disk: int | None = None
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    ports: tuple[str, ...] = ()
    registry: str | None = None
    gpu: LiveGpu | None = None
    workers: LiveWorkers
    scaling: dict[str, str | float]
    timeout: int
    flashboot: str
    data_center_ids: tuple[str, ...] = ()
    network_volumes: tuple[str, ...] = ()
    request_urls: dict[str, str] = Field(default_factory=dict)


class Rollout(Answer):
    """How many workers run the newest release."""

    in_progress: bool
    workers_on_latest: int
    workers_total: int


class Releases(Answer):
    """How far an endpoint's newest release has come."""

    endpoint_version: int | None = None
    rollout: Rollout


class WorkerCounts(Answer):
    """Workers by what they are doing."""

    running: int
    idle: int
    initializing: int
    throttled: int
    unhealthy: int
    total: int


class GpuType(Answer):
    """One card in the catalogue; `pool` is None if no serverless worker can have it."""

    id: str
    pool: str | None


@dataclass(frozen=True, slots=True)
class RestApi:
    """The calls, each with its retries; the API key is in the client's headers."""

    client: httpx2.Client
    settings: DeploySettings

    def endpoints(self) -> tuple[NamedEndpoint, ...]:
        """All endpoints of the account."""
        return parse(tuple[NamedEndpoint, ...], self._call("GET", "/serverless"), "endpoints")

    def endpoint(self, endpoint_id: str) -> LiveEndpoint:
        """One endpoint."""
        return parse(LiveEndpoint, self._call("GET", f"/serverless/{endpoint_id}"))

    def create(self, body: Mapping[str, Any]) -> LiveEndpoint:
        """A new endpoint. Not tried again after an `unsettled` error: it may exist by then."""
        return parse(LiveEndpoint, self._call("POST", "/serverless", body, repeatable=False))

    def update(self, endpoint_id: str, body: Mapping[str, Any]) -> LiveEndpoint:
        """The endpoint with the given fields changed."""
        return parse(LiveEndpoint, self._call("PATCH", f"/serverless/{endpoint_id}", body))

    def delete(self, endpoint_id: str) -> None:
        """Remove an endpoint; one that is gone already is fine."""
        try:
            self._call("DELETE", f"/serverless/{endpoint_id}")
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def releases(self, endpoint_id: str) -> Releases:
        """How far the newest release has come."""
        return parse(Releases, self._call("GET", f"/serverless/{endpoint_id}/releases"))

    def workers(self, endpoint_id: str) -> WorkerCounts:
        """What the endpoint's workers are doing."""
        return parse(WorkerCounts, self._call("GET", f"/serverless/{endpoint_id}/workers"), "summary")

    def gpu_types(self) -> tuple[GpuType, ...]:
        """The catalogue of cards and the pools they are in."""
        return parse(tuple[GpuType, ...], self._call("GET", "/catalog/gpus"), "gpus")

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, repeatable: bool = True
    ) -> dict[str, Any]:
        attempts = self.settings.attempts
        caller = stamina.RetryingCaller(attempts=attempts, timeout=None, wait_initial=0.5, wait_max=8.0)
        return caller(retry_after(self.settings, repeatable=repeatable), self._send, method, path, body)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        what = f"{method} {path}"
        try:
            response = self.client.request(method, path.lstrip("/"), json=body)
        except httpx2.TransportError as error:
            raise ApiError(f"RunPod did not answer {what}: {type(error).__name__}") from error
        try:
            document = response.json() if response.content else {}
        except ValueError:
            document = None
        if not response.is_success:
            raise _refusal(what, response, document if isinstance(document, dict) else {})
        if not isinstance(document, dict):
            raise ApiError(f"RunPod answered {what} with something that is not a JSON object")
        return document


@contextmanager
def open_api(settings: DeploySettings) -> Iterator[RestApi]:
    """The API with the key of the settings, closed at the end.

    Raises:
        DeployError: there is no key, or what is given as one cannot be a key.
    """
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    if not key:
        raise DeployError("RUNPOD_API_KEY is not set; make a key with write access to Serverless endpoints")
    if not _KEY.fullmatch(key):
        raise DeployError(
            "RUNPOD_API_KEY holds characters that are in no key; copy it again from the console"
        )
    headers = {"Authorization": f"Bearer {key}", "User-Agent": USER_AGENT, "Accept": "application/json"}
    url, seconds = settings.deploy_url, settings.timeout_seconds
    with httpx2.Client(base_url=url, headers=headers, timeout=seconds) as client:
        yield RestApi(client, settings)


def parse(kind: type[A], content: Mapping[str, Any], part: str | None = None) -> A:
    """An answer of RunPod's, or one part of it, as `kind`.

    Raises:
        DeployError: it is not what RunPod's published API says.
    """
    try:
        return TypeAdapter(kind).validate_python(content if part is None else content.get(part))
    except ValidationError as error:
        place = ".".join(map(str, [*([part] if part else []), *error.errors()[0]["loc"]]))
        raise DeployError(f"RunPod's answer is not what its API describes; see {place} in it") from None


def retry_after(settings: DeploySettings, *, repeatable: bool) -> Callable[[Exception], bool | float]:
    """Whether an error is worth another attempt, and after how many seconds if the API says so.

    A `repeatable` request may be sent twice without harm.
    """

    def decide(error: Exception) -> bool | float:
        if not isinstance(error, ApiError):
            return False
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = error.wait_seconds
            return True if wait is None else wait <= settings.longest_wait_seconds and max(wait, 0.1)
        return repeatable and error.unsettled

    return decide


def _refusal(what: str, response: httpx2.Response, document: Mapping[str, Any]) -> ApiError:
    status = response.status_code
    title = document.get("title") or response.reason_phrase
    lines = [f"RunPod answered {what} with {status} {title}: {document.get('detail') or 'no details'}"]
    problems = document.get("errors")
    if isinstance(problems, list):
        lines += [str(problem) for problem in problems[:MAX_SHOWN_ERRORS]]
    wait = _quota_free_in(response.headers) if status == HTTPStatus.TOO_MANY_REQUESTS else None
    if wait is not None:
        lines.append(f"the quota is free again in {wait:.0f} s")
    if status == HTTPStatus.UNAUTHORIZED:
        lines.append("check RUNPOD_API_KEY")
    return ApiError("\n  ".join(lines), status=status, wait_seconds=wait)


def _quota_free_in(headers: httpx2.Headers) -> float | None:
    given = whole_number(headers.get("Retry-After"))
    if given is not None:
        return given
    quotas = _QUOTA.finditer(headers.get("RateLimit", ""))
    return max((float(match["seconds"]) for match in quotas if match["left"] == "0"), default=None)
