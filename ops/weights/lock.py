"""One writer of a store at a time, and the hashes that official files are held against.

The authors publish none: the first fetch records them (trust on first use), and a team that shares the lock
file gets the same files everywhere.
"""

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from model_cache.errors import StoreUnavailable, WeightsInvalid
from model_cache.store.manifest import OfficialFile
from ops.files import write_json

WRITER_FILE = ".writer.lock"
WAIT_SECONDS = 3600.0  # longer than all files take to fetch and convert on a slow line


@contextmanager
def single_writer(store: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the store for writing; readers are never held up, since files appear whole.

    The system frees it when a process dies.

    Args:
        store: its folder, made if need be.
        say: called with a sentence when another process has to be waited for.

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


class Locked(BaseModel):
    """A file as it was first seen."""

    model_config = ConfigDict(frozen=True)

    name: str  # the official one
    sha256: str
    bytes: int
    recorded: str  # UTC date


class Lock(BaseModel):
    """The lock file."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1]  # raised when older versions of this program can no longer read it
    files: dict[str, Locked]  # by `OfficialFile.key`
    revisions: dict[str, str]  # by `repository@branch`, the commit that it was when first fetched

    def with_file(self, file: OfficialFile, sha256: str, size: int) -> "Lock":
        """The same with one more file, seen today."""
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        locked = Locked(name=file.name, sha256=sha256, bytes=size, recorded=today)
        return self.model_copy(update={"files": {**self.files, file.key: locked}})

    def with_revision(self, key: str, commit: str) -> "Lock":
        """The same with one more commit."""
        return self.model_copy(update={"revisions": {**self.revisions, key: commit}})

    def differs(self, key: str, sha256: str) -> bool:
        """Whether another hash is recorded for the file."""
        return key in self.files and self.files[key].sha256 != sha256


def read_lock(path: Path) -> Lock:
    """What is recorded; nothing yet where there is no file.

    Raises:
        WeightsInvalid: the file is broken, or cannot be read. It is never replaced: later files are held
            against it.
    """
    try:
        return Lock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Lock(format=1, files={}, revisions={})
    except OSError as error:
        raise WeightsInvalid(f"the lock file {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise WeightsInvalid(f"{path} is damaged, or no lock file of this program; restore it") from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replaces the lock file at once.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    content = lock.model_dump()
    try:
        write_json(path, content | {"files": dict(sorted(content["files"].items()))})
    except OSError as error:
        raise StoreUnavailable(f"the lock file {path} cannot be written: {error.strerror}") from error
