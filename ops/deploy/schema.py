"""What deploy.yaml may say: RunPod's REST v2 names one to one, unknown keys refused. Knows no HTTP."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from ops.deploy.environment import REFERENCE, is_reference, is_secret

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
CudaVersion = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
DEFAULT_IDLE_SECONDS = 10  # REST v2's own


class Strict(BaseModel):
    """Camel-case keys only, unknown ones refused; a refused value is never repeated: it may be a secret."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True, allow_inf_nan=False
    )


class Gpu(Strict):
    """Which cards workers may run on."""

    pools: tuple[str, ...] = Field(min_length=1, description="Pool ids; any of them will do.")
    excluded_types: tuple[str, ...] = Field(default=(), description="GPU type ids left out of the pools.")
    count: int = Field(default=1, ge=1, description="GPUs per worker; this worker uses one.")
    min_cuda_version: CudaVersion | None = Field(default=None, description="Oldest CUDA of a host.")
    allowed_cuda_versions: tuple[CudaVersion, ...] = Field(default=(), description="Or exactly these.")

    @model_validator(mode="after")
    def _floor_or_list(self) -> "Gpu":
        if self.min_cuda_version and self.allowed_cuda_versions:
            raise ValueError("minCudaVersion and allowedCudaVersions exclude each other; prefer the first")
        return self


class Workers(Strict):
    """How many workers there may be."""

    min: int = Field(default=0, ge=0, description="Always on, always paid.")
    max: int = Field(default=3, ge=0, description="At most.")
    idle_timeout: int | None = Field(
        default=None, ge=1, le=3600, description="Seconds an idle worker stays; QUEUE_DELAY only."
    )

    @model_validator(mode="after")
    def _min_below_max(self) -> "Workers":
        if self.min > self.max:
            raise ValueError("min is above max")
        return self


class QueueDelay(Strict):
    """Another worker when requests wait longer than this."""

    type: Literal["QUEUE_DELAY"]
    queue_delay: float = Field(ge=0.5, description="Seconds.")


class RequestCount(Strict):
    """One worker for so many requests, queued and running."""

    type: Literal["REQUEST_COUNT"]
    request_count: int = Field(ge=1)


Scaling = Annotated[QueueDelay | RequestCount, Field(discriminator="type")]


class Endpoint(Strict):
    """One serverless endpoint; what is left out of args, ports and registry stays as it is on RunPod."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", description="Exact; our only key to it.")
    type: Literal["QUEUE"] = "QUEUE"  # the worker takes jobs from RunPod's queue and serves no HTTP
    image: str | None = Field(default=None, description="Tag or digest, never latest; --image comes first.")
    args: str | None = None
    disk: int = Field(default=50, ge=1, description="Container disk, GB.")
    env: dict[VariableName, str] = Field(default_factory=dict)
    ports: tuple[str, ...] | None = None
    registry: str | None = Field(default=None, description="Id of a registry credential, for private images.")
    gpu: Gpu
    workers: Workers = Workers()
    scaling: Scaling
    timeout: int = Field(ge=5_000, le=7 * 24 * 3_600_000, description="Longest run of a job, milliseconds.")
    flashboot: Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"] = "FLASHBOOT"
    data_center_ids: tuple[str, ...] = Field(default=(), description="Empty: anywhere.")
    network_volumes: tuple[str, ...] = Field(default=(), description="Ids; mounted at /runpod-volume.")

    @field_validator("name")
    @classmethod
    def _no_hidden_suffix(cls, name: str) -> str:
        if name.endswith("-fb"):
            raise ValueError("ends in -fb, which older RunPod clients add to mark FlashBoot")
        return name

    @field_validator("flashboot", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        return "OFF" if value is False else value  # YAML reads a bare OFF as false

    @field_validator("env")
    @classmethod
    def _no_secret_in_the_open(cls, env: dict[str, str]) -> dict[str, str]:
        bare = [name for name, value in env.items() if is_secret(name) and not is_reference(value)]
        if bare:
            raise ValueError(f"{', '.join(bare)} is secret; say under `secrets` where it is kept")
        return env

    @model_validator(mode="after")
    def _idle_timeout_fits(self) -> "Endpoint":
        if self.workers.idle_timeout is not None and self.scaling.type == "REQUEST_COUNT":
            raise ValueError(
                "workers.idleTimeout does not go with QUEUE and REQUEST_COUNT; RunPod refuses it"
            )
        return self

    def body(self, image: str, env: Mapping[str, str]) -> dict[str, Any]:
        """The whole endpoint as REST v2 takes it; args, ports and registry only if they are set."""
        body: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        body |= {"image": image, "env": dict(env)}
        if self.scaling.type == "QUEUE_DELAY":
            body["workers"].setdefault("idleTimeout", DEFAULT_IDLE_SECONDS)
        return body


class FromEnv(Strict):
    """A value of the environment that the command runs in."""

    from_env: VariableName


class DeployFile(Strict):
    """The whole of deploy.yaml, its profile applied."""

    endpoint: Endpoint
    secrets: dict[VariableName, str | FromEnv] = Field(default_factory=dict)

    @field_validator("secrets")
    @classmethod
    def _by_reference_only(cls, secrets: dict[str, str | FromEnv]) -> dict[str, str | FromEnv]:
        for name, source in secrets.items():
            if isinstance(source, str) and not REFERENCE.fullmatch(source.strip()):
                raise ValueError(
                    f"{name} must be a reference: '{{{{ RUNPOD_SECRET_name }}}}' or {{fromEnv: VARIABLE}}"
                )
        return secrets

    @model_validator(mode="after")
    def _said_once(self) -> "DeployFile":
        twice = sorted(self.secrets.keys() & self.endpoint.env.keys())
        if twice:
            raise ValueError(f"{', '.join(twice)} is in both endpoint.env and secrets")
        return self
