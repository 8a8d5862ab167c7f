"""Results in a folder of this machine, for jobs that run without an endpoint. Knows nothing of S3."""

from pathlib import Path

from handler.connections import Check
from handler.control import read_chunks
from handler.job import Artifact, ArtifactKind
from handler.results.store import LocalFile
from handler.results.write import disk_full_is_coded


class Folder:
    """A folder as a store; made if it is not there."""

    bucket = None

    def __init__(self, path: Path) -> None:
        self._path = path

    def key(self, kind: ArtifactKind) -> str:
        """The file's name."""
        return kind

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Copy a file in; it appears complete or not at all.

        Raises:
            WorkerError: DISK_FULL.
        """
        target = self._path / file.kind
        part = self._path / f".{file.kind}.part"
        try:
            with disk_full_is_coded("upload"):
                self._path.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as copy:
                    for chunk in read_chunks(file.path, check):
                        copy.write(chunk)
                part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return file.artifact(self.key(file.kind))

    def summary(self, check: Check) -> bytes | None:
        """The `result.json` in the folder."""
        check()
        path = self._path / "result.json"
        return path.read_bytes() if path.is_file() else None

    def holds(self, artifact: Artifact, check: Check) -> bool:
        """Whether a file of that name and length is there."""
        check()
        path = self._path / artifact.kind
        return path.is_file() and path.stat().st_size == artifact.bytes
