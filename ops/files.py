"""Files that appear whole or not at all."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def written_whole(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file that takes `path`'s place on the disk when the block ends well, and leaves nothing when not.

    For one writer at a time: what a killed one left is overwritten by the next.

    Raises:
        OSError: it cannot be written; the old file, or none, is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.new")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            os.fchmod(file.fileno(), mode)  # whatever the umask: the worker's user must read a shared store
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too is on the disk
    finally:
        os.close(folder)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file for people to read."""
    with written_whole(path) as file:
        file.write(json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
