"""Results in a folder of this machine, for jobs that run without an endpoint.

What an earlier run left there is replaced, never reused.
"""

from pathlib import Path

from handler.context import Check, read_chunks
from handler.job import Artifact, ArtifactKind
from handler.results.store import LocalFile, Store
from handler.transfer.errors import disk_full_is_coded


class Folder(Store):
    """A folder as a store; made if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def key(self, kind: ArtifactKind, sha256: str) -> str:
        """The file's name."""
        return kind

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Copy a file in; it appears complete or not at all. An earlier run's summary goes first.

        Raises:
            WorkerError: DISK_FULL.
        """
        target = self._path / file.kind
        part = self._path / f".{file.kind}.part"
        try:
            with disk_full_is_coded("upload"):
                self._path.mkdir(parents=True, exist_ok=True)
                (self._path / "result.json").unlink(missing_ok=True)
                with part.open("wb") as copy:
                    for chunk in read_chunks(file.path, check):
                        copy.write(chunk)
                part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return file.artifact(self.key(file.kind, file.sha256))
