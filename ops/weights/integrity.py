"""Is a file of the kind its name says, and whole as far as its own checksums tell?

Catches error pages, Git LFS pointers and cut or damaged files at the first fetch, when no hash is known yet.
"""

import json
import zipfile
import zlib
from pathlib import Path

import yaml
from safetensors import SafetensorError, safe_open

from model_cache.store.files import describe_content

_PICKLES = (b"\x80", b"(", b"c", b"]", b"}")  # protocol 2 and later; the old text protocols


def content_problem(path: Path, suffix: str) -> str | None:
    """Why a file cannot be what it should be, in a sentence; None if it can.

    Args:
        path: the file.
        suffix: of its official name, `.ckpt` say.
    """
    return None if _fits(path, suffix) else describe_content(path)


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
        return head.startswith(_PICKLES)
    if suffix == ".safetensors":
        return _safetensors_is_whole(path)
    try:
        text = path.read_text()
        content = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError):
        return False
    return isinstance(content, dict)


def _zip_is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return bool(archive.namelist()) and archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError):  # RuntimeError: encrypted
        return False


def _safetensors_is_whole(path: Path) -> bool:
    """Whether the header describes tensors that fill the file exactly."""
    try:
        with safe_open(path, "numpy") as file:
            return bool(file.keys())
    except SafetensorError:
        return False
