"""Official PyTorch checkpoints as mappings of tensors that stay on disk until they are used.

Knows nothing of which model a checkpoint belongs to.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from model_cache.errors import WeightsInvalid
from model_cache.store.pickles import TORCH_PICKLE_MODULE, read_guarded


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote, without importing or running anything that it names.

    Tensors of today's (zip) format are mapped from the file, so a checkpoint larger than the memory can
    be read; those of the format before torch 1.6 are loaded.

    Raises:
        WeightsInvalid: not such a file, broken, or made to run code.
    """

    def read() -> Any:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith("constants.pkl") for name in archive.namelist()):
                    raise WeightsInvalid("this is a TorchScript program, a checkpoint of weights is needed")
        else:
            with path.open("rb") as file:
                if file.read(1) != b"\x80":
                    raise ValueError("neither a zip archive nor a pickle")
        return torch.load(
            path, map_location="cpu", mmap=zipped, weights_only=False, pickle_module=TORCH_PICKLE_MODULE
        )

    content = read_guarded(path, read)
    if not isinstance(content, dict):
        raise WeightsInvalid(
            f"{path.name}: a checkpoint is a dictionary, this holds a {type(content).__name__}"
        )
    return content


def tensors_of(content: Mapping[str, Any], entry: str, source: str) -> dict[str, Tensor]:
    """The tensors under a checkpoint's `entry`.

    Raises:
        WeightsInvalid: no such entry, or no tensors in it.
    """
    state = content.get(entry)
    if not isinstance(state, Mapping):
        found = ", ".join(sorted(str(key) for key in content)[:8]) or "nothing"
        raise WeightsInvalid(f"{source}: the entry `{entry}` with the weights is missing (there is: {found})")
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain data.

    Raises:
        WeightsInvalid: not YAML, not a mapping, or with tags that ask for Python objects.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")[:160]
        raise WeightsInvalid(f"{path.name}: not a plain YAML file ({reason})") from error
    if not isinstance(content, dict):
        raise WeightsInvalid(f"{path.name}: a YAML mapping is needed, this holds a {type(content).__name__}")
    return content


def setting(config: Mapping[str, Any], dotted: str, default: object, source: str) -> Any:
    """The value at a dotted path of a YAML mapping, of the type of `default` (an int passes for a float).

    Raises:
        WeightsInvalid: the value is of another type.
    """
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
