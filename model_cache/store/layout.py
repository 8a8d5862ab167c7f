"""How the store's files are named, written, hashed and read back. Knows nothing of what is in them.

A model is `NAME.safetensors` and, where it has sizes or settings, `NAME.json`; `store.json` says what each
file was made from. Files appear whole or not at all.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model_cache.errors import WeightsInvalid, WeightsMissing

FORMAT = 1  # raised when files of an older store can no longer be read
STORE_FILE = "store.json"
_DTYPE_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
}


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes `path`'s place when the block ends well, and leaves nothing behind when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)  # mkstemp's 0600 would hide a shared store from the worker's user
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file for people to read."""
    with written_whole(path) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")


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
        raise WeightsMissing(_how_to_get(path.name))
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
        raise WeightsMissing(_how_to_get(path.name))
    return _checked(path)


def read_store(store: Path) -> dict[str, Any]:
    """What `store.json` says: for each model its sources, files and ignored keys; empty for a new store.

    Raises:
        WeightsInvalid: broken, or of another format.
    """
    path = store / STORE_FILE
    if not path.is_file():
        return {"format": FORMAT, "models": {}}
    return _checked(path)


def _checked(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsInvalid(f"{path.name}: broken ({error}); convert the official files again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsInvalid(f"{path.name}: of another format; convert the official files again")
    return content


def _how_to_get(name: str) -> str:
    return (
        f"{name} is not in the weights store: run `python -m model_cache fetch`, or, where you have the "
        "official files in a folder, `python -m model_cache convert FOLDER`"
    )
