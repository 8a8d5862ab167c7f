"""Hashes of the official files as first seen, and the check that they never change after.

The authors publish no hashes; the first fetch records them (trust on first use), and a team that shares the
lock file gets the same files everywhere.
"""

import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from model_cache.errors import WeightsInvalid
from ops.files import write_json


class Locked(BaseModel):
    """A file as it was first seen.

    Attributes:
        name: its official file name.
        sha256: 64 hex digits.
        bytes: its size.
        recorded: UTC date.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    bytes: int
    recorded: str


class Lock(BaseModel):
    """The lock file.

    Attributes:
        format: raised when older versions of this program can no longer read it.
        files: by `OfficialFile.key`.
        revisions: commit by `repository@branch`: what a hub's branch was when it was first fetched.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1]
    files: dict[str, Locked]
    revisions: dict[str, str]

    def with_file(self, key: str, locked: Locked) -> "Lock":
        """The same with one more file."""
        return self.model_copy(update={"files": {**self.files, key: locked}})

    def with_revision(self, key: str, commit: str) -> "Lock":
        """The same with one more commit."""
        return self.model_copy(update={"revisions": {**self.revisions, key: commit}})

    def differs(self, key: str, sha256: str) -> bool:
        """Whether another hash is recorded for the file."""
        return key in self.files and self.files[key].sha256 != sha256


def read_lock(path: Path) -> Lock:
    """What is recorded; nothing yet where there is no file.

    Raises:
        WeightsInvalid: the file is broken. It is never replaced: later files are held against it.
    """
    if not path.is_file():
        return Lock(format=1, files={}, revisions={})
    try:
        return Lock.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise WeightsInvalid(
            f"{path.name}: not a lock file of this program ({place}: {first['msg']}); restore it"
        ) from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replaces the lock file at once."""
    content = lock.model_dump()
    write_json(path, content | {"files": dict(sorted(content["files"].items()))})


def locked_now(name: str, sha256: str, size: int) -> Locked:
    """A record of today."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Locked(name=name, sha256=sha256, bytes=size, recorded=today)
