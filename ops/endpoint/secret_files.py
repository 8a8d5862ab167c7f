"""Files that hold keys: written whole or not at all, and read strictly."""

import contextlib
import os
from pathlib import Path

from ops.endpoint.errors import CannotServe


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner can read; a crash or a full disk leaves the old one, or none.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too is on the disk
    finally:
        os.close(folder)


def read_private(path: Path) -> str | None:
    """A file's text without white space around it, or None if there is no such file.

    If others may read it, its mode is corrected.

    Raises:
        CannotServe: it cannot be read, or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.stat().st_mode & 0o077:
            with contextlib.suppress(PermissionError):  # some file systems know no owners
                path.chmod(0o600)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotServe(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise torn(path) from error
    return text.strip()


def torn(path: Path) -> CannotServe:
    """The error for a file that is empty, cut off or holds something else."""
    return CannotServe(
        f"{path} is empty or damaged: put back a copy of it, or delete it and new keys are made "
        "(what was signed with the old ones is then refused)"
    )
