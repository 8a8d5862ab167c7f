"""deploy.yaml from disk, one of its profiles laid over it. Knows nothing of RunPod's answers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ops.deploy.errors import DeployError
from ops.deploy.schema import DeployFile, FromEnv


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
    base = _validate(content, path.name)
    chosen = {name: _validate(_overlaid(content, name, overlay), f"{path.name}, profile {name}")
              for name, overlay in profiles.items()}  # fmt: skip
    if profile is None:
        return base
    if profile not in chosen:
        raise DeployError(f"{path.name} has no profile {profile!r}; it has {', '.join(chosen) or 'none'}")
    return chosen[profile]


def resolve_environment(file: DeployFile, local: Mapping[str, str]) -> dict[str, str]:
    """The worker's whole environment, local values looked up.

    Raises:
        DeployError: a variable that deploy.yaml refers to is not set here.
    """
    environment = dict(file.endpoint.env)
    missing = []
    for name, source in file.secrets.items():
        if isinstance(source, FromEnv):
            if not local.get(source.from_env):
                missing.append(f"{source.from_env} (for {name})")
            environment[name] = local.get(source.from_env, "")
        else:
            environment[name] = source
    if missing:
        raise DeployError(
            f"deploy.yaml takes these from your environment, which lacks them: {', '.join(missing)}"
        )
    return environment


def local_secrets(file: DeployFile, local: Mapping[str, str]) -> set[str]:
    """Values out of the local environment that no output may show."""
    names = (source.from_env for source in file.secrets.values() if isinstance(source, FromEnv))
    return {local[name] for name in names if local.get(name)}


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


def _validate(content: Mapping[str, Any], where: str) -> DeployFile:
    try:
        return DeployFile.model_validate(content)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'file'} - "
            f"{'unknown key' if problem['type'] == 'extra_forbidden' else problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise DeployError("\n  ".join([f"{where} is not right:", *lines])) from None


def _overlaid(content: Mapping[str, Any], name: str, overlay: object) -> dict[str, Any]:
    if not isinstance(overlay, dict):
        raise DeployError(f"profile {name} must be a mapping of the endpoint's keys")
    return {**content, "endpoint": _merged(content.get("endpoint"), overlay)}


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
