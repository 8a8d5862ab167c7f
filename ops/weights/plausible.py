"""Is a fetched file of the kind its name says, and whole as far as its own checksums tell?

Knows nothing of recorded hashes. Catches error pages, Git LFS pointers and cut or damaged files at the
first fetch, when no hash is known yet.
"""

import json
import zipfile
import zlib
from pathlib import Path

import yaml

from model_cache.store.content import describe_content
from ops.weights.errors import SourceFailed

_PICKLES = (b"\x80", b"(", b"c", b"]", b"}")  # protocol 2 and later; the old text protocols


def check_plausible(path: Path, suffix: str) -> None:
    """Raises SourceFailed, in words, for a file that cannot be what it should be.

    Args:
        path: the file.
        suffix: of its official name, `.ckpt` say.
    """
    if not _fits(path, suffix):
        raise SourceFailed(describe_content(path))


def usual_suffix(path: Path, suffix: str) -> str:
    """The suffix that the content calls for: SMPL comes as `.pkl` and as `.npz`, links may tell neither."""
    return ".npz" if suffix == ".pkl" and zipfile.is_zipfile(path) else suffix


def _fits(path: Path, suffix: str) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
    if suffix in (".ckpt", ".pth", ".npz"):
        if zipfile.is_zipfile(path):
            return _zip_is_whole(path)
        return suffix != ".npz" and head.startswith(b"\x80")  # torch.save before 1.6
    if suffix == ".npy":
        return head.startswith(b"\x93NUMPY")
    if suffix == ".pkl":
        return head.startswith(_PICKLES) and not head.startswith(b"<")
    if suffix == ".safetensors":
        return _safetensors_is_whole(path)
    try:
        text = path.read_text()
        content = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return False
    return isinstance(content, dict)


def _zip_is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False


def _safetensors_is_whole(path: Path) -> bool:
    """The header's offsets end where the file does."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size:
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    if not isinstance(header, dict):
        return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return bool(ends) and 8 + length + max(ends) == path.stat().st_size
