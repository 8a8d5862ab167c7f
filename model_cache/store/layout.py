"""How the store's models are named, written and read back. Knows nothing of what is in them.

A model is `NAME.safetensors` and, where it has sizes or settings, `NAME.json`; `store.json` says what each
file was made from. Files appear whole or not at all.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.store.files import how_to_get_file, read_checked, written_whole

_DTYPE_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype]) -> None:
    """A safetensors file, written tensor by tensor: memory holds one of them beyond the sources.

    (`safetensors.torch.save_file` builds the whole file in memory first.)

    Args:
        path: the file.
        tensors: by name; may be mapped from a checkpoint.
        dtypes: what each is stored as.

    Raises:
        WeightsInvalid: a tensor holds NaN or infinity.
    """
    # Widest types first keeps every tensor aligned to its own size.
    names = sorted(tensors, key=lambda name: (-dtypes[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].numel() * dtypes[name].itemsize
        header[name] = {
            "dtype": _DTYPE_NAMES[dtypes[name]],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with written_whole(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            tensor = tensors[name].detach().to(dtypes[name]).contiguous()
            if not bool(tensor.isfinite().all()):
                raise WeightsInvalid(f"the tensor `{name}` holds numbers that are not finite")
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def read_tensors(store: Path, model: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The tensors of `model`, mapped from the file straight to the device.

    Raises:
        WeightsMissing: the store does not have it.
        WeightsInvalid: the file is broken.
    """
    path = store / f"{model}.safetensors"
    if not path.is_file():
        raise WeightsMissing(how_to_get_file(path.name))
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"{path.name}: broken ({error}); convert the official files again") from error


def read_config(store: Path, model: str) -> dict[str, Any]:
    """The sizes and settings of `model`.

    Raises:
        WeightsMissing: the store does not have it.
        WeightsInvalid: broken, or of another format.
    """
    path = store / f"{model}.json"
    if not path.is_file():
        raise WeightsMissing(how_to_get_file(path.name))
    return read_checked(path)
