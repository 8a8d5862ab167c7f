"""Gets official files into the store, each from the first place that gives it whole."""

import hashlib
import os
import shutil
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable
from urllib.parse import urlsplit

import httpcore2

from handler.context import unstoppable
from handler.settings import BucketSettings, IntakeSettings
from handler.transfer.addresses import check_url
from handler.transfer.download import Patience, download
from handler.transfer.http import HttpFile
from handler.transfer.partial import PartialFile
from model_cache.store.files import sha256_of
from model_cache.store.manifest import OfficialFile
from ops.files import written_whole
from ops.weights.content import archive_kind, unpack
from ops.weights.errors import SourceFailed, check_room, told_to_the_operator
from ops.weights.integrity import content_problem, usual_suffix
from ops.weights.locations import Location, locations
from ops.weights.lock import Lock, locked_now, read_lock, write_lock
from ops.weights.settings import WeightSettings, WeightStorageSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIN_BYTES_PER_SECOND = 16 * 1024  # an attempt that brings less, the wait before it included, counts as failed
LONGEST_WAIT_SECONDS = 30.0


class OperatorRules(IntakeSettings):
    """Where weight files may come from: anywhere, since the operator names the place."""

    trusts_urls: ClassVar[bool] = True


def operator_rules(settings: WeightSettings) -> OperatorRules:
    """The rules by which a video is fetched, for weight files."""
    return OperatorRules.model_construct(
        allow_http=settings.allow_http,
        allowed_ports=(),
        connect_seconds=settings.connect_seconds,
        read_seconds=settings.read_seconds,
        max_redirects=6,  # a hub's file is behind two
    )


@runtime_checkable
class Listener(Protocol):
    """Is told how a fetch goes on."""

    def say(self, text: str) -> None:
        """A sentence for the operator."""

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Bytes of a file so far, and in all if known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A file and where it shall be."""

    file: OfficialFile
    target: Path


class Obtainer:
    """Fetches wishes one after the other; a context manager that closes its connections.

    Must hold the store's writer lock.

    Args:
        settings: sources and limits.
        storage: gives the credentials of `s3://` sources when the first is met.
        partial_folder: for files on their way.
        lock_path: recorded hashes.
        folders: caches of the official packages.
        listener: is told how it goes on.
    """

    def __init__(
        self,
        settings: WeightSettings,
        storage: Callable[[], WeightStorageSettings],
        *,
        partial_folder: Path,
        lock_path: Path,
        folders: Sequence[Path],
        listener: Listener,
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._partials = partial_folder
        self._lock_path = lock_path
        self._folders = folders
        self._listener = listener
        self._failed: dict[str, str] = {}  # address -> why: one archive answers for several files
        self.lock: Lock = read_lock(lock_path)

    def __enter__(self) -> "Obtainer":
        self._partials.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # stays while something is on its way
            self._partials.rmdir()

    def obtain(self, wish: Wish, others: Sequence[Wish]) -> None:
        """Puts a file in its place; others that come in the same archive are put in theirs.

        Raises:
            SourceFailed: no place gives it; the message lists what each said.
            StoreUnavailable: no room.
        """
        reasons = []
        for location in locations(wish.file, self._settings, self._folders):
            try:
                if location.address in self._failed:
                    raise SourceFailed(self._failed[location.address])
                self._listener.say(f"{wish.file.name}: asking {location.label}")
                self._take(location, wish, others)
                return
            except SourceFailed as error:
                self._failed[location.address] = str(error)
                reasons.append(f"{location.label} {error}")
                self._listener.say(f"{wish.file.name}: {reasons[-1]}")
        raise SourceFailed("; ".join(reasons) or "no source of it is set")

    def _take(self, location: Location, wish: Wish, others: Sequence[Wish]) -> None:
        if location.path is not None:
            if not location.path.is_file():
                raise SourceFailed("is not there")
            self._accept(location.path, location, wish, others, movable=False)
            return
        key = source_key(location.address)
        path = self._partials / f"{wish.file.role}-{key[:12]}.part"
        reserve = self._settings.reserve_disk_bytes
        with (
            told_to_the_operator(),
            PartialFile(path, reserve_bytes=reserve, source=key) as partial,
        ):
            commit = self._download(location.address, partial, wish.file.name)
        try:
            self._accept(path, location, wish, others, movable=True)
        finally:
            partial.discard()
        if commit:
            self._pin(location.address, commit)

    def _download(self, address: str, partial: PartialFile, name: str) -> str | None:
        """Fetches what is missing of a file; returns the hub's commit, where there is one."""
        patience = Patience(
            attempts=self._settings.attempts,
            forgives=True,  # so that a host which cuts every connection still gets there
            min_bytes_per_second=MIN_BYTES_PER_SECOND,
            first_wait_seconds=self._settings.retry_seconds,
            longest_wait_seconds=LONGEST_WAIT_SECONDS,
        )

        def report(done: int, total: int | None) -> None:
            self._listener.progress(name, done, total)

        if address.startswith("s3://"):
            from handler.transfer.s3 import s3_file  # takes a second, and most operators have no s3:// source

            parts = urlsplit(address)
            file = s3_file(self._s3, parts.netloc, parts.path.lstrip("/"))
            download(file, partial, patience, check=unstoppable, report=report)
            return None
        rules = operator_rules(self._settings)
        source = HttpFile(
            check_url(address, rules),
            rules,
            check=unstoppable,
            ssl_context=self._ssl_context,
            # Some servers call a .tar.gz a tar with the content coding gzip; it must stay as it is.
            takes_encoded=True,
        )
        download(source.open_at, partial, patience, check=unstoppable, report=report)
        return source.commit

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        context = httpcore2.default_ssl_context()
        if self._settings.ca_file:
            context.load_verify_locations(self._settings.ca_file)
        return context

    @cached_property
    def _s3(self) -> "S3Client":
        from handler.transfer.s3 import s3_client

        bucket = BucketSettings.model_construct(
            **dict(self._storage()),
            connect_seconds=self._settings.connect_seconds,
            read_seconds=self._settings.read_seconds,
        )
        return s3_client(bucket, ca_file=self._settings.ca_file)

    def _accept(
        self, path: Path, location: Location, wish: Wish, others: Sequence[Wish], *, movable: bool
    ) -> None:
        """Checks what came and puts it in its place."""
        # From anybody but the operator SMPL is not taken, even if an archive should hold it.
        wanted = [wish, *(o for o in others if location.of_operator or not o.file.operator_only)]
        files = [w.file for w in wanted]
        kind = archive_kind(path, files)
        if kind == "file":
            suffix = usual_suffix(path, Path(wish.file.path).suffix)
            self._install(path, suffix, wish, movable=movable)
            return
        with tempfile.TemporaryDirectory(dir=self._partials) as folder:
            reserve = self._settings.reserve_disk_bytes
            found = unpack(path, kind, files, Path(folder), reserve_bytes=reserve)
            if wish.file.role not in found:
                raise SourceFailed(f"holds no {wish.file.name}")
            self._install(found[wish.file.role], found[wish.file.role].suffix, wish, movable=True)
            for other in wanted[1:]:
                if unpacked := found.get(other.file.role):
                    try:
                        self._install(unpacked, unpacked.suffix, other, movable=True)
                    except SourceFailed as error:
                        self._listener.say(f"{other.file.name}: {location.label} {error}")
        # All that was wanted of it has been taken: it need not be fetched again for a further file.
        self._failed[location.address] = "does not hold it"

    def _install(self, path: Path, suffix: str, wish: Wish, *, movable: bool) -> None:
        official = Path(wish.file.path).suffix
        # A checkpoint may go by .ckpt or .pth; only SMPL is of two kinds.
        target = wish.target.with_suffix(suffix) if wish.file.operator_only else wish.target
        if problem := content_problem(path, suffix if wish.file.operator_only else official):
            raise SourceFailed(problem)
        sha256 = sha256_of(path)
        if self.lock.differs(wish.file.key, sha256):
            raise SourceFailed(f"gave another file than the one recorded in {self._lock_path.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if movable:
            path.chmod(0o644)  # a shared store must be readable for the worker's user
            path.replace(target)
        else:
            link_or_copy(path, target, self._settings.reserve_disk_bytes)
        if wish.file.key not in self.lock.files:
            record = locked_now(wish.file.name, sha256, target.stat().st_size)
            self.lock = self.lock.with_file(wish.file.key, record)
            write_lock(self._lock_path, self.lock)

    def _pin(self, address: str, commit: str) -> None:
        key = branch_of(address)
        if key and not key.endswith(commit) and key not in self.lock.revisions:
            self.lock = self.lock.with_revision(key, commit)
            write_lock(self._lock_path, self.lock)
            self._listener.say(f"{key} is pinned to {commit}")


def source_key(address: str) -> str:
    """What a source is known by on disk.

    Without the query: a presigned URL's signature changes, its path does not. Hashed: the path may be secret.
    """
    plain = urlsplit(address)._replace(query="", fragment="").geturl()
    return hashlib.sha256(plain.encode()).hexdigest()


def branch_of(address: str) -> str | None:
    """`repository@revision` out of a hub's address of a file."""
    parts = urlsplit(address).path.strip("/").split("/")
    return f"{parts[0]}/{parts[1]}@{parts[3]}" if len(parts) > 4 and parts[2] == "resolve" else None


def link_or_copy(path: Path, target: Path, reserve_bytes: int) -> None:
    """The same file in a second place: a hard link on the same disk, else a copy that appears whole."""
    target.unlink(missing_ok=True)
    try:
        os.link(path.resolve(), target)
    except OSError:
        check_room(target.parent, path.stat().st_size, reserve_bytes)
        with path.open("rb") as source, written_whole(target) as copy:
            shutil.copyfileobj(source, copy, 2**20)


def present(wishes: Mapping[str, Wish], lock: Lock) -> dict[str, Path]:
    """Wishes that are fulfilled already: in their place, and what was recorded."""
    found = {}
    for role, wish in wishes.items():
        suffixes = (".pkl", ".npz") if wish.file.operator_only else (wish.target.suffix,)
        for path in (wish.target.with_suffix(suffix) for suffix in suffixes):
            if path.is_file() and not lock.differs(wish.file.key, sha256_of(path)):
                found[role] = path
                break
    return found
