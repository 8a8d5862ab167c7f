"""What a source gave: a file of the right kind, whole, or an archive that only wanted files are taken from.

Both are told by the content: presigned and shared links often have no name that would tell. An archive never
says where something is written: a member is chosen by its base name, must be a plain file, and its bytes are
copied to a place of our choice. So `../`, absolute paths, links and devices have no effect.
"""

import gzip
import json
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import yaml
from safetensors import SafetensorError, safe_open

from handler.transfer.partial import check_room
from model_cache.errors import StoreUnavailable
from model_cache.store.files import describe_content, sha256_of
from model_cache.store.manifest import OfficialFile
from ops.files import written_whole
from ops.weights.locations import SourceFailed

CHUNK_BYTES = 2**20
MAX_MEMBER_BYTES = 16 * 2**30  # six times the largest official file: past it something is made to fill disks
MAX_MEMBERS = 100_000

Kind = Literal["tar", "zip", "file"]
# RuntimeError: an encrypted zip; ValueError: a head that makes no sense.
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
_BROKEN = (*_BROKEN_ZIP, tarfile.TarError, gzip.BadGzipFile)
_PICKLES = (b"\x80", b"(", b"c", b"]", b"}")  # protocol 2 and later; the old text protocols


def content_problem(path: Path, suffix: str) -> str | None:
    """Why a file cannot be what its official name's suffix says, in a sentence; None if it can.

    Finds error pages, Git LFS pointers and cut or damaged files when no hash is known yet.
    """
    return None if _fits(path, suffix) else describe_content(path)


def archive_kind(path: Path, wanted: Sequence[OfficialFile]) -> Kind:
    """What a file is. A zip, as checkpoints and `.npz` are too, counts only with a wanted file in it."""
    head = _head(path)
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "tar"
    try:
        with zipfile.ZipFile(path) as archive:
            return "zip" if any(_wanted(name, wanted) for name in archive.namelist()) else "file"
    except zipfile.BadZipFile:
        return "file"


def unpack(
    path: Path, kind: Kind, wanted: Sequence[OfficialFile], into: Path, *, reserve_bytes: int
) -> dict[str, Path]:
    """Copies the wanted members of an archive into a folder; returns role -> file.

    Reads the archive once, to its end, so that its checksums count. Memory: one chunk.

    Raises:
        SourceFailed: broken, or two different members go by the same name.
        TransferError: DISK_FULL.
        StoreUnavailable: the folder cannot be written.
    """
    found: dict[str, tuple[int, Path]] = {}
    try:
        with closing(_members(path, kind)) as members:
            for name, size, content in members:
                file = _wanted(name, wanted)
                if file is None:
                    continue
                if size > MAX_MEMBER_BYTES:
                    raise SourceFailed(f"the archive's {file.name} would unpack to {size >> 30} GiB")
                rank = file.rank(PurePosixPath(name).name) or 0
                known = found.get(file.role)
                if known is not None and rank > known[0]:
                    continue
                check_room(into, size, reserve_bytes)
                target = into / f"{file.role}.{len(found)}{PurePosixPath(name).suffix.lower()}"
                with written_whole(target) as out:
                    shutil.copyfileobj(content, out, CHUNK_BYTES)
                if known is not None and known[0] == rank and sha256_of(target) != sha256_of(known[1]):
                    raise SourceFailed(
                        f"the archive holds different files that go as {file.name}: give the right one itself"
                    )
                found[file.role] = (rank, target)
    except _BROKEN as error:
        raise SourceFailed(f"the archive is broken ({type(error).__name__})") from error
    except OSError as error:
        raise StoreUnavailable(f"cannot unpack into the weights store: {error.strerror}") from error
    return {role: target for role, (_, target) in found.items()}


def _wanted(member: str, wanted: Sequence[OfficialFile]) -> OfficialFile | None:
    name = PurePosixPath(member.replace("\\", "/")).name
    return next((file for file in wanted if file.rank(name) is not None), None)


def _members(path: Path, kind: Kind) -> Generator[tuple[str, int, IO[bytes]]]:
    """Plain files of an archive: name, size, content to be read before the next."""
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist()[:MAX_MEMBERS]:
                is_link = (entry.external_attr >> 28) == 0o12
                if not entry.is_dir() and not is_link:
                    with archive.open(entry) as content:
                        yield entry.filename, entry.file_size, content
        return
    with path.open("rb") as raw:
        compressed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        # Not tarfile's own "r|gz", which does not compare gzip's checksum.
        plain = gzip.GzipFile(fileobj=raw) if compressed else raw
        with tarfile.open(fileobj=plain, mode="r|") as tar:
            for number, member in enumerate(tar):
                if number == MAX_MEMBERS:
                    raise SourceFailed(f"the archive holds more than {MAX_MEMBERS} members")
                content_of = tar.extractfile(member) if member.isreg() else None
                if content_of is not None:
                    yield member.name, member.size, content_of
        while plain.read(CHUNK_BYTES):
            pass


def _fits(path: Path, suffix: str) -> bool:
    head = _head(path)
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
    except _BROKEN_ZIP:
        return False


def _safetensors_is_whole(path: Path) -> bool:
    """Whether the header describes tensors that fill the file exactly."""
    try:
        with safe_open(path, "numpy") as file:
            return bool(file.keys())
    except SafetensorError:
        return False


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)
