"""Which environment variables a worker reads, which of them are secret, and which values it would refuse."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

import model_cache.settings
import ops.weights.settings
from handler.settings import Settings

REFERENCE = re.compile(r"\{\{\s*RUNPOD_SECRET_[A-Za-z0-9_]+\s*\}\}")

_SOUNDS_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|(?:^|_)KEY(?:_|$)", re.IGNORECASE)
_PLATFORM_PREFIX = "RUNPOD_"  # read by RunPod's SDK, which has many more than we name


@cache
def worker_settings() -> Mapping[str, FieldInfo]:
    """Every environment variable that a worker's settings classes read."""
    return {name: field for settings in _classes() for name, field in _variables(settings)}


def is_reference(value: str) -> bool:
    """Whether a value is the name of one of RunPod's secrets, not a secret."""
    return REFERENCE.fullmatch(value.strip()) is not None


def is_secret(name: str) -> bool:
    """Whether a variable's value must never be shown."""
    field = worker_settings().get(name)
    return bool(_SOUNDS_SECRET.search(name)) or (field is not None and _holds_secret(field))


def wrong_settings(environment: Mapping[str, str]) -> list[str]:
    """What the worker would refuse at start: values that its settings do not accept, names it does not know.

    Only names with one of our prefixes count as unknown: OMP_NUM_THREADS is for others to know. References
    are left alone: their values are not here.
    """
    prefixes = {settings.model_config.get("env_prefix", "") for settings in _classes()}
    ours = tuple(prefixes - {"", _PLATFORM_PREFIX})
    wrong = []
    for name, value in sorted(environment.items()):
        field = worker_settings().get(name)
        if field is None:
            if name.startswith(ours):
                wrong.append(f"{name} - the worker has no such setting")
        elif not is_reference(value):
            wrong += [f"{name} - {problem}" for problem in _problems(field, value)]
    return wrong


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Names that are neither settings of the worker nor RunPod's own."""
    known = worker_settings()
    return sorted(name for name in environment if name not in known and not name.startswith(_PLATFORM_PREFIX))


def setting_value(environment: Mapping[str, str], name: str) -> float:
    """A numeric setting as the worker will see it."""
    field = worker_settings()[name]
    if name in environment and not is_reference(environment[name]):
        return float(environment[name])
    return float(field.get_default(call_default_factory=True, validated_data={}))


def _classes() -> Iterator[type[BaseSettings]]:
    for field in Settings.model_fields.values():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, BaseSettings)
        yield field.annotation
    for value in (*vars(model_cache.settings).values(), *vars(ops.weights.settings).values()):
        if isinstance(value, type) and issubclass(value, BaseSettings) and value is not BaseSettings:
            yield value


def _variables(settings: type[BaseSettings]) -> Iterator[tuple[str, FieldInfo]]:
    prefix = settings.model_config.get("env_prefix", "")
    for name, field in settings.model_fields.items():
        if field.description:  # the others are constants, see `EnvironmentSettings`
            yield f"{prefix}{name}".upper(), field


def _holds_secret(field: FieldInfo) -> bool:
    return "SecretStr" in repr(field.annotation)


def _problems(field: FieldInfo, value: str) -> list[str]:
    kind: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        adapter.validate_strings(value)
    except ValidationError as error:
        try:
            adapter.validate_json(value)  # lists are JSON in an environment variable
        except ValidationError:
            return [str(problem["msg"]) for problem in error.errors(include_input=False, include_url=False)]
    return []
