"""Writing a store: one process at a time, and each file whole or not at all."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from model_cache.errors import StoreUnavailable

WRITER_FILE = ".writer.lock"
WAIT_SECONDS = 3600.0  # longer than all files take to fetch and convert on a slow line


@contextmanager
def single_writer(store: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the store for writing; readers are never held up, since files appear whole.

    The system frees it when a process dies.

    Args:
        store: its folder, made if need be.
        say: is told when another process has to be waited for.

    Raises:
        StoreUnavailable: another process kept it longer than an hour, or the folder cannot be written.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store / WRITER_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("Another process is writing this store; waiting for it.")
            lock.acquire(timeout=WAIT_SECONDS)
    except Timeout as error:
        raise StoreUnavailable(
            f"another process has been writing the store for {WAIT_SECONDS:.0f} s: end it, or try again later"
        ) from error
    except OSError as error:
        raise StoreUnavailable(f"the weights store {store} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


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
