"""The endpoint's keys: made at the first start, and kept in files that only their owner can read.

Kept, so that workers, presigned URLs and clients outlive a restart.
"""

import contextlib
import re
import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ops.endpoint import CannotServe
from ops.files import written_whole

_WORKER_KEY = re.compile(r"[A-Za-z0-9_-]{40}")  # how `token_urlsafe(30)` writes them
# An empty pair would have the server let everyone in; quotes and commas separate pairs in its settings.
_STORAGE_KEY = r"^[A-Za-z0-9+/=_-]{3,128}$"


class StorageKeys(BaseModel):
    """One key pair, which may read and write everything in the store."""

    model_config = ConfigDict(frozen=True)

    access_key_id: str = Field(pattern=_STORAGE_KEY)
    secret_access_key: str = Field(pattern=_STORAGE_KEY, repr=False)


def worker_key(path: Path) -> str:
    """The key that workers send.

    Raises:
        CannotServe: the file does not hold a whole key.
        OSError: a new key cannot be written.
    """
    key = _kept(path, secrets.token_urlsafe(30))
    if not _WORKER_KEY.fullmatch(key):
        raise _torn(path)
    return key


def storage_keys(path: Path) -> StorageKeys:
    """The key pair of the S3 server; the same errors."""
    new = StorageKeys(
        access_key_id=secrets.token_hex(10).upper(), secret_access_key=secrets.token_urlsafe(30)
    )
    try:
        return StorageKeys.model_validate_json(_kept(path, new.model_dump_json()))
    except ValidationError:
        raise _torn(path) from None  # the error quotes the file


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner can read; a crash or a full disk leaves the old one, or none.

    Raises:
        OSError: it cannot be written.
    """
    with written_whole(path, mode=0o600) as file:
        file.write(text.encode())


def read_private(path: Path) -> str | None:
    """A file's text without white space around it, or None if there is no such file.

    If others may read it, its mode is corrected.

    Raises:
        CannotServe: it cannot be read, or is not text.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.stat().st_mode & 0o077:
            with contextlib.suppress(PermissionError):  # some file systems have no owners
                path.chmod(0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotServe(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _torn(path) from error
    return text.strip()


def _kept(path: Path, new: str) -> str:
    """What the file holds; it is made with `new` if it is not there."""
    text = read_private(path)
    if text is None:
        write_private(path, new)
    return new if text is None else text


def _torn(path: Path) -> CannotServe:
    return CannotServe(
        f"{path} is empty or damaged: put back a copy of it, or delete it and new keys are made "
        "(what was signed with the old ones is then refused)"
    )
