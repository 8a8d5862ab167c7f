"""A download's bytes on disk: counted, hashed, within the disk's and the job's limits. Knows no network."""

import contextlib
import errno
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from handler.errors import InputError, WorkerError
from handler.settings import IntakeSettings

FreeBytes = Callable[[Path], int]

DISK_CHECK_BYTES = 64 * 1024**2  # between two looks at the free space


def free_bytes(folder: Path) -> int:
    """Bytes free on the folder's disk."""
    return shutil.disk_usage(folder).free


class PartialFile:
    """What has arrived of a file, and which version of it; a context manager that closes the file.

    Attributes:
        size: bytes on disk.
        etag: strong version tag these bytes belong to, or None; only then may a transfer be resumed.
        total: length of the whole file, or None if the server does not say.
        num_restarts: times the bytes had to be thrown away.
    """

    def __init__(self, path: Path, settings: IntakeSettings, free: FreeBytes = free_bytes) -> None:
        self._path = path
        self._settings = settings
        self._free = free
        self._file = path.open("wb", buffering=0)
        self._reset()
        self.num_restarts = 0

    def _reset(self) -> None:
        self._hash = hashlib.sha256()
        self._next_disk_check = DISK_CHECK_BYTES
        self.size = 0
        self.etag: str | None = None
        self.total: int | None = None

    def __enter__(self) -> "PartialFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """Of the bytes on disk."""
        return self._hash.hexdigest()

    def restart(self) -> None:
        """Throw away what has arrived: it belongs to another version, or cannot be resumed."""
        self._file.seek(0)
        self._file.truncate()
        self.num_restarts += self.size > 0
        self._reset()

    def announce(self, total: int | None) -> None:
        """Note the length of the whole file and refuse it if it cannot fit.

        Raises:
            InputError: VIDEO_TOO_LARGE.
            WorkerError: DISK_FULL.
        """
        self.total = total
        if total is None:
            return
        self._check_size(total)
        self._check_disk(total - self.size)

    def write(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            InputError: VIDEO_TOO_LARGE if the count passes the limit, whatever was announced.
            WorkerError: DISK_FULL.
            OSError: the disk's own word, see `translated_disk_errors`.
        """
        self._check_size(self.size + len(chunk))
        if self.size + len(chunk) >= self._next_disk_check:
            self._check_disk(len(chunk))
            self._next_disk_check += DISK_CHECK_BYTES
        view = memoryview(chunk)
        while view:
            view = view[self._file.write(view) :]
        self._hash.update(chunk)
        self.size += len(chunk)

    def _check_size(self, size: int) -> None:
        limit = self._settings.max_bytes
        if size > limit:
            raise InputError(
                "VIDEO_TOO_LARGE", f"the video is larger than this worker's limit of {limit} bytes"
            )

    def _check_disk(self, more_bytes: int) -> None:
        if self._free(self._path.parent) - more_bytes < self._settings.reserve_disk_bytes:
            raise _disk_full()


@contextlib.contextmanager
def translated_disk_errors() -> Iterator[None]:
    """Turn a full disk or quota into DISK_FULL; other errors of the disk pass."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full() from error
        raise


def _disk_full() -> WorkerError:
    return WorkerError("DISK_FULL", "this worker's disk has no room for the video")
