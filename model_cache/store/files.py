"""How files of the store are hashed, written whole and read back, but for tensors. Knows nothing of models.

Needs no torch: commands that only look at a store start at once.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from model_cache.errors import WeightsInvalid
from model_cache.store.manifest import FETCH

FORMAT = 1  # raised when files of an older store can no longer be read
STORE_FILE = "store.json"


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


def read_store(store: Path) -> dict[str, Any]:
    """What `store.json` says: for each model its sources, files and ignored keys; empty for a new store.

    Raises:
        WeightsInvalid: broken, or of another format.
    """
    path = store / STORE_FILE
    if not path.is_file():
        return {"format": FORMAT, "models": {}}
    return read_checked(path)


def read_checked(path: Path) -> dict[str, Any]:
    """A JSON file of the store.

    Raises:
        WeightsInvalid: broken, or of another format.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsInvalid(f"{path.name}: broken ({error}); convert the official files again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsInvalid(f"{path.name}: of another format; convert the official files again")
    return content


def how_to_get_file(name: str) -> str:
    """The message for a converted file that is not there."""
    return (
        f"{name} is not in the weights store: run `{FETCH}`, or, where you have the "
        "official files in a folder, `python -m handler weights convert FOLDER`"
    )
