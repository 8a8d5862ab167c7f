"""What RunPod says is there: endpoints, releases, workers. Knows nothing of what is wanted."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from ops.deploy.errors import DeployError

M = TypeVar("M", bound=BaseModel)


class Answer(BaseModel):
    """Part of an answer: unknown keys are RunPod's business, values are never repeated in errors."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
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


class LiveEndpoint(Answer):
    """An endpoint as it is. `gpu` is None for an endpoint on CPUs."""

    id: str
    name: str
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


class NamedEndpoint(Answer):
    """One of the account's endpoints, which may be of any kind and age."""

    id: str
    name: str


class EndpointList(Answer):
    """All endpoints of the account."""

    endpoints: tuple[NamedEndpoint, ...]


class Rollout(Answer):
    """How far the newest release has come."""

    in_progress: bool
    workers_on_latest: int
    workers_total: int
    percent_on_latest: int


class Releases(Answer):
    """An endpoint's releases; only the newest one's progress matters here."""

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


class Workers(Answer):
    """An endpoint's workers, counted."""

    summary: WorkerCounts


class GpuType(Answer):
    """One card in the catalogue; `pool` is None if no serverless worker can have it."""

    id: str
    pool: str | None


class GpuTypes(Answer):
    """The catalogue."""

    gpus: tuple[GpuType, ...]


def parse(model: type[M], content: Mapping[str, Any]) -> M:
    """An answer of RunPod's as `model`.

    Raises:
        DeployError: it is not what RunPod's published API says.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise DeployError(
            f"RunPod's answer is not what its API describes: {place}: {problem['msg']}"
        ) from None
