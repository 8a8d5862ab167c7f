"""deploy.yaml: what it may say, in RunPod's REST v2 names, and how it is read with one of its profiles."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from handler.problems import problems
from ops.deploy import DeployError
from ops.environment import is_reference, is_secret, setting_value, unknown_names

VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
CudaVersion = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
DEFAULT_IDLE_SECONDS = 10  # REST v2's own
GB = 1000**3

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HOST = r"[a-z0-9][a-z0-9.-]*(?::\d+)?/"
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(rf"(?P<name>(?:{_HOST})?{_PART}(?:/{_PART})*)(?::(?P<tag>[^/@]*))?(?:@(?P<digest>.*))?")


class Strict(BaseModel):
    """Camel-case keys only, unknown ones refused; a refused value is never repeated: it may be a secret."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, hide_input_in_errors=True, allow_inf_nan=False
    )


class Gpu(Strict):
    """Which cards workers may run on."""

    pools: tuple[str, ...] = Field(
        min_length=1, examples=[["ADA_24"]], description="Pool ids; any of them will do."
    )
    excluded_types: tuple[str, ...] = Field(default=(), description="GPU type ids left out of the pools.")
    count: int = Field(default=1, ge=1, description="GPUs per worker; this worker uses one.")
    min_cuda_version: CudaVersion | None = Field(default=None, examples=["12.8"])  # the oldest of a host
    allowed_cuda_versions: tuple[CudaVersion, ...] = Field(default=(), description="Or exactly these.")


class Workers(Strict):
    """How many workers there may be."""

    min: int = Field(default=0, ge=0, description="Always on, always paid.")
    max: int = Field(default=3, ge=0, description="At most.")
    idle_timeout: int | None = Field(
        default=None, ge=1, le=3600, description="Seconds an idle worker stays; QUEUE_DELAY only."
    )


class QueueDelay(Strict):
    """Another worker when requests wait longer than this."""

    type: Literal["QUEUE_DELAY"]
    queue_delay: float = Field(ge=0.5, description="Seconds.")


class RequestCount(Strict):
    """One worker for this many requests, queued and running."""

    type: Literal["REQUEST_COUNT"]
    request_count: int = Field(ge=1)


Scaling = Annotated[
    QueueDelay | RequestCount,
    Field(discriminator="type", examples=[{"type": "REQUEST_COUNT", "requestCount": 1}]),
]


class Endpoint(Strict):
    """One serverless endpoint; what is left out of args, ports and registry stays as it is on RunPod."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", examples=["hmr2-phalp"])
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

    @field_validator("flashboot", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        return "OFF" if value is False else value  # YAML reads a bare OFF as false

    @model_validator(mode="after")
    def _consistent(self) -> "Endpoint":
        gpu, workers = self.gpu, self.workers
        bare = [name for name, value in self.env.items() if is_secret(name) and _is_in_the_open(value)]
        rules = (
            (self.name.endswith("-fb"), "name ends in -fb, which older RunPod clients add to mark FlashBoot"),
            (
                gpu.min_cuda_version and gpu.allowed_cuda_versions,
                "gpu.minCudaVersion and gpu.allowedCudaVersions exclude each other; prefer the first",
            ),
            (workers.min > workers.max, "workers.min is above max"),
            (
                workers.idle_timeout is not None and self.scaling.type == "REQUEST_COUNT",
                "workers.idleTimeout does not go with QUEUE and REQUEST_COUNT; RunPod refuses it",
            ),
            (bare, f"env holds {', '.join(bare)} in the open; say under `secrets` where it is kept"),
        )
        if broken := [message for is_broken, message in rules if is_broken]:
            raise ValueError("; ".join(broken))
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

    @property
    def from_here(self) -> dict[str, str]:
        """The variables that are taken out of the environment of the command, by the worker's names."""
        return {name: source.from_env for name, source in self.secrets.items() if isinstance(source, FromEnv)}

    @model_validator(mode="after")
    def _by_reference_and_once(self) -> "DeployFile":
        secrets = self.secrets.items()
        if bare := [name for name, source in secrets if isinstance(source, str) and _is_in_the_open(source)]:
            raise ValueError(
                f"secrets holds {', '.join(bare)} in the open; "
                "say '{{ RUNPOD_SECRET_name }}' or {fromEnv: VARIABLE} instead"
            )
        if twice := sorted(self.secrets.keys() & self.endpoint.env.keys()):
            raise ValueError(f"secrets and endpoint.env both hold {', '.join(twice)}")
        return self


def read_deploy_file(path: Path, profile: str | None = None) -> DeployFile:
    """The file with `profile` applied; every profile in it is checked, the chosen one is returned.

    An overlay's mappings are merged key by key; its lists, its values and `scaling` replace; null takes away.

    Raises:
        DeployError: it cannot be read, is not what the schema says, or has no such profile.
    """
    content = _load(path)
    profiles = content.pop("profiles", None) or {}
    if not isinstance(profiles, dict):
        raise DeployError(f"{path.name}: profiles must be a mapping of name to overlay")
    files: dict[str | None, DeployFile] = {None: _validate(content, path.name)}
    for name, overlay in profiles.items():
        if not isinstance(overlay, dict):
            raise DeployError(f"profile {name} must be a mapping of the endpoint's keys")
        overlaid = {**content, "endpoint": _merged(content.get("endpoint"), overlay)}
        files[name] = _validate(overlaid, f"{path.name}, profile {name}")
    if profile not in files:
        raise DeployError(f"{path.name} has no profile {profile!r}; it has {', '.join(profiles) or 'none'}")
    return files[profile]


def resolve_environment(file: DeployFile, local: Mapping[str, str]) -> dict[str, str]:
    """The worker's whole environment, local values looked up; an empty one counts as unset for the worker.

    Raises:
        DeployError: a variable that deploy.yaml refers to is not there.
    """
    missing = [f"{there} (for {name})" for name, there in file.from_here.items() if there not in local]
    if missing:
        raise DeployError(
            f"deploy.yaml takes these from your environment, which lacks them: {', '.join(missing)}"
        )
    references = {name: source for name, source in file.secrets.items() if isinstance(source, str)}
    taken = {name: local[there] for name, there in file.from_here.items()}
    return {**file.endpoint.env, **references, **taken}


def check_image(image: str) -> str:
    """The reference as it is, if it names one build: a digest, or a tag other than `latest`.

    A rolling release keeps serving the image a host has cached under the same name, so two workers of one
    endpoint could run different code.

    Raises:
        DeployError: it does not.
    """
    match = _IMAGE.fullmatch(image)
    if match is None:
        raise DeployError(f"image {image!r} is not an image reference")
    name, tag, digest = match["name"], match["tag"], match["digest"]
    problem = None
    if digest is not None:
        problem = None if _DIGEST.fullmatch(digest) else "has a digest that is not sha256:<64 hex digits>"
    elif not tag:
        problem = f"has no tag; name one build: {name}:0.1.0 or a digest"
    elif not _TAG.fullmatch(tag):
        problem = "has a tag that no registry accepts"
    elif tag.lower() == "latest":
        problem = "names no build, since hosts may serve a cached `latest`; use a version"
    if problem:
        raise DeployError(f"image {image!r} {problem}")
    return image


def remarks(endpoint: Endpoint, environment: Mapping[str, str]) -> list[str]:
    """What may be set and yet is not wise: limits that contradict each other. None stops a deployment."""
    budget, timeout = setting_value(environment, "WORKER_TIME_BUDGET_SECONDS"), endpoint.timeout / 1000
    video = setting_value(environment, "VIDEO_MAX_BYTES")
    needed = (2 * video + setting_value(environment, "VIDEO_RESERVE_DISK_BYTES")) / GB
    unknown = ", ".join(unknown_names(environment))
    checks = (
        (
            budget >= timeout,
            f"WORKER_TIME_BUDGET_SECONDS ({budget:.0f}) is not below the timeout ({timeout:.0f} s): "
            "a long job ends as TIMED_OUT, without a code",
        ),
        (
            endpoint.disk < needed,
            f"disk ({endpoint.disk} GB) is less than two largest videos and the reserve ({needed:.0f} GB): "
            "a large video may not fit",
        ),
        (
            endpoint.gpu.count > 1,
            f"gpu.count is {endpoint.gpu.count}: a worker uses one GPU, the others are paid and idle",
        ),
        (endpoint.workers.max == 0, "workers.max is 0: jobs will wait forever"),
        (bool(unknown), f"not settings of the worker: {unknown}"),
    )
    return [remark for applies, remark in checks if applies]


class _Loader(yaml.SafeLoader):
    """YAML in which a key said twice is an error: the first would silently not count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else key_node
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:  # its own text would quote the line, which may hold a secret
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise DeployError(f"{path.name}, line {line}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DeployError(f"{path.name} is not YAML text: {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise DeployError(f"{path.name} must be a mapping with the key `endpoint`")
    return content


def _is_in_the_open(value: str) -> bool:
    return value != "" and not is_reference(value)


def _validate(content: Mapping[str, Any], where: str) -> DeployFile:
    try:
        return DeployFile.model_validate(content)
    except ValidationError as error:
        lines = problems(error, DeployFile, content, whole="the file")
        raise DeployError("\n  ".join([f"{where} is not right:", *lines])) from None


def _merged(under: object, over: object) -> object:
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    result = dict(under)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value if key == "scaling" else _merged(result.get(key), value)
    return result
