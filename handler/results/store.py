"""What every place for results promises, and the files that go there. Knows no place in particular."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from handler.context import read_chunks, unstoppable
from handler.errors import JobError
from handler.job import Artifact, ArtifactKind
from handler.transfer.connections import Check

CONTENT_TYPES: dict[ArtifactKind, str] = {
    "result.json": "application/json",
    # Never Content-Encoding: some clients would unpack in passing and some not. A .gz is a gzip file.
    "frames.jsonl.gz": "application/gzip",
    "frames.json": "application/json",
    "overlay.mp4": "video/mp4",
}
COMPRESSION: dict[ArtifactKind, str] = {"frames.jsonl.gz": "gzip"}
READ_BYTES = 64 * 1024  # `check` is asked at least that often


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A finished file, ready to go out."""

    kind: ArtifactKind
    path: Path
    size_bytes: int
    sha256: str

    @property
    def content_type(self) -> str:
        """The Content-Type it is stored with."""
        return CONTENT_TYPES[self.kind]

    def artifact(self, key: str | None) -> Artifact:
        """The file as the reader finds it."""
        return Artifact(
            kind=self.kind,
            key=key,
            bytes=self.size_bytes,
            sha256=self.sha256,
            content_type=self.content_type,
            encoding=COMPRESSION.get(self.kind),
        )


def local_file(kind: ArtifactKind, path: Path, check: Check = unstoppable) -> LocalFile:
    """A file with its length and hash; reads it once, with a `check` before each chunk."""
    digest, size = hashlib.sha256(), 0
    for chunk in read_chunks(path, check):
        digest.update(chunk)
        size += len(chunk)
    return LocalFile(kind=kind, path=path, size_bytes=size, sha256=digest.hexdigest())


@runtime_checkable
class Store(Protocol):
    """One job's place for results."""

    @property
    def bucket(self) -> str | None:
        """The bucket's name; None where there is none."""
        ...

    def key(self, kind: ArtifactKind, sha256: str) -> str | None:
        """Where a file with these bytes lies; None if only the caller knows."""
        ...

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Store a file under its name; nothing half-written stays behind.

        Args:
            file: what to store.
            check: called all along; what it raises ends the upload and comes out.

        Raises:
            ResultError: UPLOAD_DENIED, UPLOAD_FAILED.
        """
        ...

    def summary(self, check: Check) -> bytes | None:
        """The `result.json` that is already there; None if there is none, or if this place cannot tell.

        Raises:
            ResultError: UPLOAD_DENIED, UPLOAD_FAILED: nothing could be stored there later either.
        """
        ...

    def holds(self, artifact: Artifact, check: Check) -> bool:
        """Whether this very file is there, byte for byte; False if this place cannot tell.

        Raises:
            ResultError: UPLOAD_FAILED: the place does not answer.
        """
        ...

    def end_uploads(self, check: Check) -> None:
        """Remove what workers that are gone have begun to store for this job, as far as this place can."""
        ...


class Interrupt(BaseException):
    """Carries a JobError through a library that would swallow or retry any `Exception`."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.code)
        self.error = error


class Section:
    """A part of a file as a request body that asks `check` before every read.

    Args:
        file: open for reading; not closed here.
        start: first byte.
        size: number of bytes.
        check: what JobError it raises comes out as an `Interrupt`.
    """

    def __init__(self, file: IO[bytes], start: int, size: int, check: Check) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._check = check
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, amount: int | None = -1) -> bytes:
        """At most `amount` bytes, and never more than `READ_BYTES`; all that is left by default."""
        try:
            self._check()
        except JobError as error:
            raise Interrupt(error) from None
        left = self._size - self._position
        amount = left if amount is None or amount < 0 else min(amount, left, READ_BYTES)
        self._file.seek(self._start + self._position)
        data = self._file.read(amount)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte of the section; a retry starts over."""
        origin = {0: 0, 1: self._position, 2: self._size}[whence]
        self._position = min(max(origin + offset, 0), self._size)
        return self._position

    def tell(self) -> int:
        """The next byte to be read."""
        return self._position
