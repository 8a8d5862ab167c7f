"""A download's bytes on disk: counted, hashed, within the limits, and kept for a later run if wanted."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from handler.transfer.errors import Problem, TransferError, is_disk_full

DISK_CHECK_BYTES = 64 * 1024**2  # between two looks at the free space


class PartialFile:
    """What has arrived of a file, and which version of it; a context manager that closes the file.

    Args:
        path: where the bytes are.
        reserve_bytes: disk space that must stay free.
        max_bytes: longest file that is taken; None: any.
        source: if given, `PATH.json` notes that the bytes are from there, and what an earlier run left of the
            same source is gone on with. Must hold no secret.
    """

    size: int  # bytes on disk
    version: str | None  # what the source calls the version they belong to; None: cannot be resumed
    total: int | None  # length of the whole file; None if the source does not say

    def __init__(
        self,
        path: Path,
        *,
        reserve_bytes: int,
        max_bytes: int | None = None,
        source: str | None = None,
    ) -> None:
        self._path = path
        self._note_path = path.with_name(path.name + ".json")
        self._reserve_bytes, self._max_bytes = reserve_bytes, max_bytes
        self._source = source
        note = self._read_note() if path.is_file() else {}
        is_kept = bool(note.get("version"))
        self._file = path.open("ab" if is_kept else "wb", buffering=0)
        self._reset()
        if is_kept:
            with path.open("rb") as kept:
                self._hash = hashlib.file_digest(kept, "sha256")
            self.size = self._file.tell()
            self.version, self.total = note["version"], note.get("total")

    def _reset(self) -> None:
        self._hash = hashlib.sha256()
        self._next_disk_check = DISK_CHECK_BYTES
        self.size, self.version, self.total = 0, None, None

    def __enter__(self) -> "PartialFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """Of the bytes on disk."""
        return self._hash.hexdigest()

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there, as far as the source told its length."""
        return self.size == self.total

    def restart(self) -> None:
        """Throw away what has arrived: it belongs to another version, or cannot be resumed."""
        if self.size:
            self._file.truncate(0)
            self._file.seek(0)
        self._reset()

    def describe(self, version: str | None, total: int | None) -> None:
        """Note what the bytes that follow belong to, and refuse a file that is too long.

        Raises:
            TransferError: TOO_LARGE, DISK_FULL.
        """
        self.version, self.total = version, total
        if self._source is not None:
            note = {"source": self._source, "version": version, "total": total}
            self._note_path.write_text(json.dumps(note))
        if total is not None:
            self._check_size(total)
            check_room(self._path.parent, total - self.size, self._reserve_bytes)

    def write(self, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            TransferError: TOO_LARGE if the count passes the limit, whatever was announced; DISK_FULL.
        """
        self._check_size(self.size + len(chunk))
        if self.size + len(chunk) >= self._next_disk_check:
            check_room(self._path.parent, len(chunk), self._reserve_bytes)
            self._next_disk_check = self.size + DISK_CHECK_BYTES
        view = memoryview(chunk)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            if is_disk_full(error):
                raise TransferError(Problem.DISK_FULL, "no room left") from error
            raise
        self._hash.update(chunk)
        self.size += len(chunk)

    def discard(self) -> None:
        """Remove it from the disk."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)

    def _read_note(self) -> dict[str, Any]:
        try:
            note = json.loads(self._note_path.read_bytes())
        except (OSError, ValueError):
            return {}
        is_ours = isinstance(note, dict) and self._source is not None and note.get("source") == self._source
        return note if is_ours else {}

    def _check_size(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            raise TransferError(Problem.TOO_LARGE, f"larger than the limit of {self._max_bytes} bytes")


def check_room(folder: Path, num_bytes: int, reserve_bytes: int) -> None:
    """Raise DISK_FULL where writing so much would leave less than the reserve."""
    free, needed = shutil.disk_usage(folder).free, num_bytes + reserve_bytes
    if free < needed:
        reason = f"{free / 2**20:.0f} MiB free, {needed / 2**20:.0f} MiB are needed"
        raise TransferError(Problem.DISK_FULL, reason)
