"""Takes wanted files out of archives by their names, and nothing else.

The archive never says where something is written: a member is chosen by its base name, must be a plain
file, and its bytes are copied to a place of our choice. So `../`, absolute paths, links and devices have no
effect, whatever an archive holds.
"""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from model_cache.errors import StoreUnavailable
from model_cache.store.files import sha256_of
from model_cache.store.manifest import OfficialFile
from ops.files import written_whole
from ops.weights.errors import SourceFailed, check_room

CHUNK_BYTES = 2**20
MAX_MEMBER_BYTES = 16 * 2**30  # six times the largest official file: past it something is made to fill disks
MAX_MEMBERS = 100_000


Kind = Literal["tar", "zip", "file"]
# RuntimeError: an encrypted zip; ValueError: a head that makes no sense.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile),
    *(zlib.error, EOFError, RuntimeError, ValueError),
)


def archive_kind(path: Path, wanted: Sequence[OfficialFile]) -> Kind:
    """What a file is by its content, since presigned and shared links often have no name that would tell.

    Checkpoints and `.npz` files are zip archives too: only one that holds a wanted file counts as such.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "tar"
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                if any(_wanted(name, wanted) for name in archive.namelist()):
                    return "zip"
        except zipfile.BadZipFile:
            return "file"
    return "file"


def unpack(
    path: Path, kind: Kind, wanted: Sequence[OfficialFile], into: Path, *, reserve_bytes: int
) -> dict[str, Path]:
    """Copies the wanted members of an archive into a folder; returns role -> file.

    Reads the archive once, to its end, so that its checksums count. Memory: one chunk.

    Raises:
        SourceFailed: broken, or two different members go by the same name.
        StoreUnavailable: no room.
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
                _copy(content, target, size)
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


def _copy(content: IO[bytes], target: Path, size: int) -> None:
    copied = 0
    with written_whole(target) as out:
        while chunk := content.read(CHUNK_BYTES):
            copied += len(chunk)
            if copied > size:
                raise SourceFailed("the archive's contents are longer than it says")
            out.write(chunk)
    if copied != size:
        raise SourceFailed("the archive's contents are shorter than it says")
