"""Hashes and JSON files of the store, and what an unreadable file seems to be; without torch, so at once."""

import hashlib
import json
from pathlib import Path
from typing import Any

from model_cache.errors import WeightsInvalid

FORMAT = 1  # raised when files of an older store can no longer be read
STORE_FILE = "store.json"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_store(store: Path) -> dict[str, Any]:
    """What `store.json` says: for each model its sources, files and ignored keys; empty for a new store.

    Raises:
        WeightsInvalid: broken, or of another format.
    """
    path = store / STORE_FILE
    return read_checked(path) if path.is_file() else {"format": FORMAT, "models": {}}


def read_checked(path: Path) -> dict[str, Any]:
    """A JSON file of the store.

    Raises:
        WeightsInvalid: broken, or of another format.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise WeightsInvalid(f"{path.name}: broken ({error}); convert the official files again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise WeightsInvalid(f"{path.name}: of another format; convert the official files again")
    return content


def describe_content(path: Path) -> str:
    """A sentence on what an unreadable file seems to be, from its first bytes."""
    with path.open("rb") as file:
        head = file.read(256)
    if not head:
        return "the file is empty; download it again"
    if head.lstrip()[:1] == b"<":
        return "this is a web page, not the file: the link led to a login or an error page"
    if head.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the file: run `git lfs pull` or download the file itself"
    return "the file cannot be read; it may be cut short or of another kind, so download it again"
