"""The environment variables that are settings: which there are, which are secret, which values are wrong."""

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from handler.problems import problems
from handler.settings import Settings
from model_cache.settings import ModelSettings
from ops.deploy.settings import DeploySettings
from ops.endpoint.settings import ServeSettings
from ops.weights.settings import WeightSettings, WeightStorageSettings

REFERENCE = re.compile(r"\{\{\s*RUNPOD_SECRET_[A-Za-z0-9_]+\s*\}\}")

_SOUNDS_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|(?:^|_)KEY(?:_|$)", re.IGNORECASE)
_PLATFORM_PREFIX = "RUNPOD_"  # read by RunPod's SDK, which has many more than we name


@cache
def worker_settings() -> Mapping[str, FieldInfo]:
    """Every environment variable that a worker, or the weights command in its image, reads."""
    per_job = [field.annotation for field in Settings.model_fields.values()]
    return dict(_variables(*per_job, ModelSettings, WeightSettings, WeightStorageSettings))


@cache
def _every_setting() -> Mapping[str, FieldInfo]:
    return {**worker_settings(), **dict(_variables(ServeSettings, DeploySettings))}


def is_reference(value: str) -> bool:
    """Whether a value is the name of one of RunPod's secrets, not a secret."""
    return REFERENCE.fullmatch(value.strip()) is not None


def is_secret(name: str) -> bool:
    """Whether a variable's value must never be shown."""
    field = worker_settings().get(name)
    return bool(_SOUNDS_SECRET.search(name)) or (field is not None and "SecretStr" in repr(field.annotation))


def wrong_settings(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each setting that a worker would refuse at its start, or would not heed.

    References to RunPod's secrets are right: their values are not here.
    """
    given = {name: value for name, value in environment.items() if not is_reference(value)}
    return wrong_values(given) + unknown_settings(environment)


def wrong_values(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each setting whose value is not accepted, without the value."""
    fields = _every_setting()
    given = {name: value for name, value in environment.items() if name in fields and value}
    definitions: Any = {name: (fields[name].annotation, fields[name]) for name in given}
    model = create_model("Environment", **definitions)
    try:
        model.model_validate_strings(given)
    except ValidationError as error:
        return problems(error, model, given)
    return []


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each name that looks like a setting but is not one.

    Names with one of our prefixes count, and those that are a letter or two from a setting's.
    """
    known = _every_setting()
    prefixes = ("VIDEO_", "BUCKET_", "WORKER_", "CLEAR_CACHE_", "WEIGHTS_", "SERVE_", "RUNPOD_DEPLOY_")
    sentences = []
    for name in sorted(environment.keys() - known.keys()):
        ours = name.startswith(prefixes)
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8 if ours else 0.9)
        if near and not name.startswith(_PLATFORM_PREFIX):
            sentences.append(f"{name} is not a setting; did you mean {near[0]}?")
        elif ours:
            sentences.append(f"{name} is not a setting")
    return sentences


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """Names that are neither settings of the worker nor RunPod's own."""
    known = worker_settings()
    return sorted(name for name in environment if name not in known and not name.startswith(_PLATFORM_PREFIX))


def setting_value(environment: Mapping[str, str], name: str) -> float:
    """A numeric setting as the worker will see it."""
    field = worker_settings()[name]
    given = environment.get(name)
    if given and not is_reference(given):
        return float(given)
    return float(field.get_default(call_default_factory=True, validated_data={}))


def _variables(*classes: Any) -> Iterator[tuple[str, FieldInfo]]:
    for settings in classes:
        assert issubclass(settings, BaseSettings)
        prefix = settings.model_config.get("env_prefix", "")
        for name, field in settings.model_fields.items():
            if field.description:  # the others are constants, see `EnvironmentSettings`
                yield f"{prefix}{name}".upper(), field
