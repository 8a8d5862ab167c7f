"""A file on its way: its bytes so far, and whose they are, both on disk so that a later run goes on.

Knows nothing of networks.
"""

import errno
import hashlib
import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from model_cache.errors import StoreUnavailable

LOOK_EVERY_BYTES = 64 * 2**20  # how often the free space is looked at while a file of unknown length grows


class Partial:
    """One file below the store's `partial/` folder; a context manager that closes it.

    Args:
        path: where the bytes are kept; `PATH.json` beside it says whose they are.
        address: the source. What is there of another source is thrown away.
        reserve_bytes: disk space that must stay free.
    """

    def __init__(self, path: Path, address: str, *, reserve_bytes: int) -> None:
        self.path = path
        self._reserve = reserve_bytes
        self._state_path = path.with_name(path.name + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._source = source_key(address)
        self.version: str | None = None
        self.total: int | None = None
        self._read_state()
        self._file = path.open("ab")
        self._unchecked = 0
        if self.version is None:
            self.start_over()

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    @property
    def complete(self) -> bool:
        """Whether all bytes are there, as far as the source told its length."""
        return self.total is not None and self.size == self.total

    def start_over(self) -> None:
        """Forget the bytes so far."""
        self._file.truncate(0)
        self._file.seek(0)
        self.version = self.total = None

    def describe(self, *, version: str | None, total: int | None) -> None:
        """Notes whose bytes follow.

        Raises:
            StoreUnavailable: they will not fit.
        """
        self.version, self.total = version, total
        state = {"source": self._source, "version": version, "total": total}
        self._state_path.write_text(json.dumps(state))
        self._check_room(0 if total is None else total - self.size)

    def write(self, chunk: bytes) -> None:
        """Adds bytes.

        Raises:
            StoreUnavailable: the disk is full, or would be.
        """
        self._unchecked += len(chunk)
        if self.total is None and self._unchecked >= LOOK_EVERY_BYTES:
            self._check_room(len(chunk))
            self._unchecked = 0
        try:
            self._file.write(chunk)
        except OSError as error:
            raise no_room(self.path.parent, 0) if error.errno == errno.ENOSPC else error from error

    def discard(self) -> None:
        """Removes it from the disk."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)

    def __enter__(self) -> "Partial":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read_state(self) -> None:
        try:
            state = json.loads(self._state_path.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(state, dict) and state.get("source") == self._source:
            self.version, self.total = state.get("version"), state.get("total")

    def _check_room(self, more: int) -> None:
        check_room(self.path.parent, more, self._reserve)


def source_key(address: str) -> str:
    """What a source is known by on disk.

    Without the query: a presigned URL's signature changes, its path does not. Hashed: the path may be secret.
    """
    plain = urlsplit(address)._replace(query="", fragment="").geturl()
    return hashlib.sha256(plain.encode()).hexdigest()


def check_room(folder: Path, num_bytes: int, reserve_bytes: int) -> None:
    """Raises StoreUnavailable where writing so much would leave less than the reserve."""
    if shutil.disk_usage(folder).free < num_bytes + reserve_bytes:
        raise no_room(folder, num_bytes + reserve_bytes)


def no_room(folder: Path, needed_bytes: int) -> StoreUnavailable:
    """The error for a full disk."""
    free = shutil.disk_usage(folder).free
    return StoreUnavailable(
        f"the disk of the weights store has {free / 2**20:.0f} MiB free"
        + (f", {needed_bytes / 2**20:.0f} MiB are needed" if needed_bytes else "")
        + ": make room, or put the store elsewhere (MODEL_STORE). What was fetched is kept"
    )
