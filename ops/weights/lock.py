"""Hashes of the official files as first seen, and the check that they never change after.

Knows nothing of sources. The authors publish no hashes; the first fetch records them (trust on first use),
and a team that shares the lock file gets the same files everywhere.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from model_cache.errors import WeightsInvalid
from ops.weights.writer import write_json

LOCK_FILE = "weights.lock.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A file as it was first seen.

    Attributes:
        name: its official file name.
        sha256: 64 hex digits.
        bytes: its size.
        recorded: UTC date.
    """

    name: str
    sha256: str
    bytes: int
    recorded: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The lock file.

    Attributes:
        files: by role.
        revisions: commit by `repository@branch`: what a hub's branch was when it was first fetched.
    """

    files: Mapping[str, Locked]
    revisions: Mapping[str, str]

    def with_file(self, role: str, locked: Locked) -> "Lock":
        """The same with one more file."""
        return replace(self, files={**self.files, role: locked})

    def with_revision(self, key: str, commit: str) -> "Lock":
        """The same with one more commit."""
        return replace(self, revisions={**self.revisions, key: commit})

    def differs(self, role: str, sha256: str) -> bool:
        """Whether another hash is recorded for the file."""
        return role in self.files and self.files[role].sha256 != sha256


def read_lock(path: Path) -> Lock:
    """What is recorded; nothing yet where there is no file.

    Raises:
        WeightsInvalid: the file is broken. It is never thrown away: it is what later files are held against.
    """
    if not path.is_file():
        return Lock(files={}, revisions={})
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        return Lock(
            files={role: Locked(**facts) for role, facts in content["files"].items()},
            revisions=dict(content["revisions"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsInvalid(f"{path.name}: not a lock file of this program ({error}); restore it") from error


def write_lock(path: Path, lock: Lock) -> None:
    """Replaces the lock file at once."""
    files = {role: asdict(locked) for role, locked in sorted(lock.files.items())}
    write_json(path, {"format": FORMAT, "files": files, "revisions": dict(lock.revisions)})


def locked_now(name: str, sha256: str, size: int) -> Locked:
    """A record of today."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Locked(name=name, sha256=sha256, bytes=size, recorded=today)
