"""Which tensors of a checkpoint are used, which are not, and why. Knows nothing of files.

Nothing is skipped in silence: a needed tensor that is missing or misshapen is an error, and so is a
tensor that nobody expects where inference happens; every other one is listed with its reason.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from model_cache.errors import WeightsInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreRule:
    """Tensors whose key matches `pattern` from its start are not needed, for `reason`."""

    pattern: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounted:
    """The tensors that inference needs, by their official key, and the reason for leaving each other one."""

    used: Mapping[str, Tensor]
    ignored: Mapping[str, str]


def account(
    state: Mapping[str, Tensor],
    needed: Mapping[str, tuple[int, ...]],
    rules: Sequence[IgnoreRule],
    source: str,
) -> Accounted:
    """Sorts every key of `state` into used and ignored.

    Args:
        state: tensors by official key.
        needed: shape by official key.
        rules: what may be left, first match counts.
        source: file name for messages.

    Raises:
        WeightsInvalid: a needed key is missing, has another shape or is no float tensor, or a key is
            neither needed nor covered by a rule (the file is of a model that this code does not know).
    """
    missing = [key for key in needed if key not in state]
    if missing:
        raise WeightsInvalid(f"{source}: {len(missing)} needed tensors are missing: {_some(missing)}")
    misshapen = [
        f"{key} is {tuple(state[key].shape)} instead of {shape}"
        for key, shape in needed.items()
        if tuple(state[key].shape) != shape
    ]
    if misshapen:
        raise WeightsInvalid(f"{source}: tensors of the wrong shape: {_some(misshapen)}")
    not_float = [key for key in needed if not state[key].dtype.is_floating_point]
    if not_float:
        raise WeightsInvalid(f"{source}: tensors that are not of a float type: {_some(not_float)}")
    ignored = {}
    unknown = []
    for key in state:
        if key in needed:
            continue
        reason = next((rule.reason for rule in rules if re.match(rule.pattern, key)), None)
        if reason is None:
            unknown.append(key)
        else:
            ignored[key] = reason
    if unknown:
        raise WeightsInvalid(
            f"{source}: tensors of an unknown network part, so not the expected model: {_some(unknown)}"
        )
    return Accounted(used={key: state[key] for key in needed}, ignored=ignored)


def shape_of(state: Mapping[str, Tensor], key: str, num_axes: int, source: str) -> tuple[int, ...]:
    """The shape of a tensor that sizes are derived from.

    Raises:
        WeightsInvalid: missing, or with another number of axes.
    """
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


def group_keys(keys: Mapping[str, str]) -> dict[str, list[str]]:
    """Ignored keys by reason, in order of appearance."""
    groups: dict[str, list[str]] = {}
    for key, reason in keys.items():
        groups.setdefault(reason, []).append(key)
    return groups


def _some(texts: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(texts[:limit])
    return shown if len(texts) <= limit else f"{shown} and {len(texts) - limit} more"
