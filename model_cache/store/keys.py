"""Which tensors and settings of official files are used, which are not, and why.

Every function raises `WeightsInvalid` where a file has not what is asked of it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from model_cache.errors import WeightsInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounted:
    """The tensors that inference needs, by their official key, and the reason for leaving each other one."""

    used: Mapping[str, Tensor]
    ignored: Mapping[str, str]


def account(
    state: Mapping[str, Tensor], needed: Mapping[str, tuple[int, ...]], rules: Mapping[str, str], source: str
) -> Accounted:
    """Sorts every official key of `state` into used and ignored; nothing is skipped in silence.

    Args:
        state: tensors by key.
        needed: shape by key.
        rules: patterns of what may be left, and the reason; the first that fits a key's start counts.
        source: file name for messages.

    Raises:
        WeightsInvalid: a needed key is missing, has another shape or is not a float tensor, or a key is
            neither needed nor covered by a rule (the file is of a model that this code does not know).
    """

    def refuse(what: str, keys: Sequence[str]) -> None:
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            raise WeightsInvalid(f"{source}: {what}: {', '.join(keys[:5])}{more}")

    missing = [key for key in needed if key not in state]
    refuse(f"{len(missing)} needed tensors are missing", missing)
    used = {key: state[key] for key in needed}
    shapes = {key: tuple(tensor.shape) for key, tensor in used.items()}
    misshapen = [
        f"{key} is {shapes[key]} instead of {needed[key]}" for key in needed if shapes[key] != needed[key]
    ]
    refuse("tensors of the wrong shape", misshapen)
    refuse("tensors that are not of a float type", [k for k, t in used.items() if not t.is_floating_point()])
    rest = [key for key in state if key not in needed]
    found = {key: [reason for pattern, reason in rules.items() if re.match(pattern, key)] for key in rest}
    unknown = [key for key, reasons in found.items() if not reasons]
    refuse("tensors of an unknown network part, so not the expected model", unknown)
    return Accounted(used=used, ignored={key: reasons[0] for key, reasons in found.items()})


def shape_of(state: Mapping[str, Tensor], key: str, num_axes: int, source: str) -> tuple[int, ...]:
    """The shape of a tensor that sizes are derived from."""
    if key not in state:
        raise WeightsInvalid(f"{source}: the tensor `{key}` is missing, so this is not the expected model")
    shape = tuple(state[key].shape)
    if len(shape) != num_axes:
        raise WeightsInvalid(f"{source}: `{key}` has {len(shape)} axes instead of {num_axes}")
    return shape


def count_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many consecutive numbers from 0 follow `prefix` among the keys."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    found = {int(match.group(1)) for match in map(pattern.match, state) if match}
    return next(number for number in range(len(found) + 1) if number not in found)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain data."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")[:160]
        raise WeightsInvalid(f"{path.name}: not a plain YAML file ({reason})") from error
    if not isinstance(content, dict):
        raise WeightsInvalid(f"{path.name}: a YAML mapping is needed, this holds a {type(content).__name__}")
    return content


def setting(config: Mapping[str, Any], dotted: str, default: object, source: str) -> Any:
    """The value at a dotted path of a YAML mapping, of the type of `default` (an int passes for a float)."""
    value: Any = config
    for name in dotted.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return default
        value = value[name]
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, type(default)) or isinstance(value, bool) != isinstance(default, bool):
        raise WeightsInvalid(f"{source}: `{dotted}` is {value!r}, a {type(default).__name__} is needed")
    return value
