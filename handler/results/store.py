"""What every place for results promises, the simplest such place, and the errors of an upload."""

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from handler.context import Check, read_chunks, unstoppable
from handler.errors import ErrorCode, InputError, JobError, ResultError
from handler.job import Artifact, ArtifactKind
from handler.transfer.errors import Problem, TransferError

CONTENT_TYPES: dict[ArtifactKind, str] = {
    "result.json": "application/json",
    # Never Content-Encoding: some clients would unpack in passing and some not. A .gz is a gzip file.
    "frames.jsonl.gz": "application/gzip",
    "frames.json": "application/json",
    "overlay.mp4": "video/mp4",
}

_NOT_ALLOWED = (InputError, ErrorCode.URL_NOT_ALLOWED, "{place}: {reason}")
_DENIED = (ResultError, ErrorCode.UPLOAD_DENIED, "{place} refused the upload ({reason})")
_FAILED = (ResultError, ErrorCode.UPLOAD_FAILED, "{place} {reason}")
CODES: dict[Problem, tuple[type[JobError], ErrorCode, str]] = {
    Problem.ADDRESS_REFUSED: _NOT_ALLOWED,
    Problem.NOT_HTTPS: _NOT_ALLOWED,
    Problem.NAME_INVALID: (ResultError, ErrorCode.OUTPUT_NOT_ALLOWED, "the bucket's name is not valid"),
    Problem.LINK_REFUSED: (
        ResultError,
        ErrorCode.UPLOAD_DENIED,
        "{place} was refused ({reason}): it has expired, or was signed for another method or Content-Type; "
        "a new URL is needed",
    ),
    Problem.HOST_UNKNOWN: (ResultError, ErrorCode.UPLOAD_DENIED, "{place} {reason}"),
    Problem.NOT_FOUND: _DENIED,
    Problem.ACCESS_DENIED: _DENIED,
    Problem.KEYS_REFUSED: _DENIED,
    Problem.REFUSED: (ResultError, ErrorCode.UPLOAD_DENIED, "{place} refused the upload: it {reason}"),
    Problem.UPLOAD_UNKNOWN: _FAILED,
    Problem.NOT_TRUSTED: _FAILED,
    Problem.CHANGED: _FAILED,
    Problem.UNAVAILABLE: _FAILED,
}


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
            encoding="gzip" if self.kind.endswith(".gz") else None,
        )


def local_file(kind: ArtifactKind, path: Path, check: Check = unstoppable) -> LocalFile:
    """A file with its length and hash; `check` is called before each chunk of it."""
    digest, size = hashlib.sha256(), 0
    for chunk in read_chunks(path, check):
        digest.update(chunk)
        size += len(chunk)
    return LocalFile(kind=kind, path=path, size_bytes=size, sha256=digest.hexdigest())


@runtime_checkable
class Store(Protocol):
    """One job's place for results. The defaults are those of a place that cannot be read.

    A `check` is called throughout; an exception of it ends the work and is passed on. Every method with a
    check may raise the ResultErrors UPLOAD_DENIED and UPLOAD_FAILED.

    Attributes:
        bucket: the bucket's name; None where there is none.
    """

    bucket: str | None = None

    def key(self, kind: ArtifactKind, sha256: str) -> str | None:
        """Where a file with these bytes lies; None if only the caller knows."""

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Store a file under its name; nothing half-written stays behind."""
        ...

    def summary(self, check: Check) -> bytes | None:
        """The `result.json` that is already there; None if there is none, or if this place cannot tell.

        An error means that nothing could be stored there later either.
        """
        check()
        return None

    def holds(self, artifact: Artifact, check: Check) -> bool:
        """Whether this very file is there, byte for byte; False if this place cannot tell."""
        return False

    def end_uploads(self, check: Check) -> None:
        """Remove what workers that are gone have begun to store for this job, as far as this place can."""
        check()


class Folder(Store):
    """A folder of this machine, for jobs without an endpoint; made if it is not there.

    What an earlier run left there is replaced, never reused.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def key(self, kind: ArtifactKind, sha256: str) -> str:
        """The file's name."""
        return kind

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Copy a file in; it appears whole or not at all. An old summary goes first.

        Raises:
            ResultError: UPLOAD_DENIED, the system does not let it be written; says why.
        """
        part = self._path / f".{file.kind}.part"
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            (self._path / "result.json").unlink(missing_ok=True)
            with part.open("wb") as copy:
                copy.writelines(read_chunks(file.path, check))
            part.replace(self._path / file.kind)
        except OSError as error:
            message = f"{error.filename or self._path} cannot be written: {error.strerror}"
            raise ResultError(ErrorCode.UPLOAD_DENIED, message, stage="upload") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return file.artifact(file.kind)


@contextlib.contextmanager
def upload_errors_coded(place: str) -> Iterator[None]:
    """Every TransferError as the coded error of an upload; `place` begins its message."""
    try:
        yield
    except TransferError as error:
        kind, code, message = CODES[error.problem]
        raise kind(code, message.format(place=place, reason=error.reason), stage="upload") from error


def limited(check: Check, seconds: float) -> Check:
    """The same check, which also raises UPLOAD_FAILED once so much time has passed."""
    deadline = time.monotonic() + seconds

    def check_all() -> None:
        check()
        if time.monotonic() > deadline:
            raise ResultError(
                ErrorCode.UPLOAD_FAILED, f"the upload took longer than {seconds:.0f} s", stage="upload"
            )

    return check_all
