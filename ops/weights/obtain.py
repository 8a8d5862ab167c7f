"""Gets official files into the store, each from the first place that gives it whole."""

import hashlib
import os
import re
import shutil
import ssl
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol
from urllib.parse import urlsplit

import httpcore2

from handler.context import unstoppable
from handler.settings import BucketSettings, IntakeSettings
from handler.transfer.addresses import check_url
from handler.transfer.download import Patience, download
from handler.transfer.errors import Problem, TransferError
from handler.transfer.http import HttpFile
from handler.transfer.partial import PartialFile, check_room
from model_cache.errors import StoreUnavailable, WeightsInvalid
from model_cache.settings import ModelSettings
from model_cache.store.files import sha256_of
from model_cache.store.manifest import OfficialFile
from ops.files import written_whole
from ops.weights.content import archive_kind, content_problem, unpack
from ops.weights.inventory import place_in_store
from ops.weights.locations import Location, SourceFailed, locations
from ops.weights.lock import Lock, read_lock, write_lock
from ops.weights.settings import WeightSettings, weight_storage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIN_BYTES_PER_SECOND = 16 * 1024  # an attempt that brings less, the wait before it included, counts as failed
LONGEST_WAIT_SECONDS = 30.0
PARTIAL_FOLDER = "partial"

# What follows the name of the source; `{}` is the error's own reason.
_WORDS = {
    Problem.ADDRESS_REFUSED: "is not an address that can be fetched: {}",
    Problem.NOT_HTTPS: "leads to an address that is not https (WEIGHTS_ALLOW_HTTP=true accepts http)",
    Problem.NAME_INVALID: "is not an address that can be fetched: no bucket can have this name",
    Problem.NOT_FOUND: "has no such file ({})",
    Problem.LINK_REFUSED: "refused ({}): expired, not public, or moved",
    Problem.ACCESS_DENIED: "refused the credentials (WEIGHTS_S3_* or BUCKET_*): {}",
    Problem.KEYS_REFUSED: "refused the credentials (WEIGHTS_S3_* or BUCKET_*): {}",
    Problem.NOT_TRUSTED: "{} (WEIGHTS_CA_FILE names one more authority)",
}


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


class Listener(Protocol):
    """Receives the progress of a fetch."""

    def say(self, text: str) -> None:
        """A sentence for the operator."""

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Bytes of a file so far, and in all if known."""


class Obtainer:
    """Fetches files one after the other, into a store whose writer lock is held."""

    def __init__(
        self, models: ModelSettings, settings: WeightSettings, caches: Sequence[Path], listener: Listener
    ) -> None:
        self.partial_folder = models.model_store / PARTIAL_FOLDER  # for files on their way
        self.partial_folder.mkdir(parents=True, exist_ok=True)
        self._models = models
        self._settings = settings
        self._caches = caches
        self._listener = listener
        self._authorities = _authorities(settings.ca_file)
        self._silent: set[str] = set()  # hosts that gave nothing, however often they were asked
        self._failed: dict[str, str] = {}  # address -> why: one archive answers for several files
        self._lock_path = settings.lock_file(models.model_store)
        self.lock: Lock = read_lock(self._lock_path)

    def present(self, file: OfficialFile) -> Path | None:
        """The file if it is in its place already, and what was recorded."""
        place = place_in_store(self._models, file)
        suffixes = (".pkl", ".npz") if file.operator_only else (place.suffix,)
        places = [path for suffix in suffixes if (path := place.with_suffix(suffix)).is_file()]
        return next((path for path in places if not self.lock.differs(file.key, sha256_of(path))), None)

    def obtain(self, file: OfficialFile, lacking: Sequence[OfficialFile]) -> dict[str, Path]:
        """Puts a file in its place, and what else of `lacking` comes in the same archive; role -> file.

        Raises:
            SourceFailed: no place gives it; the message lists what each said.
            StoreUnavailable: no room.
        """
        reasons = []
        for location in locations(file, self._settings, self._caches):
            try:
                if location.address in self._failed:
                    raise SourceFailed(self._failed[location.address])
                self._listener.say(f"{file.name}: asking {location.label}")
                with _told_to_the_operator():
                    return self._take(location, file, lacking)
            except SourceFailed as error:
                self._failed[location.address] = str(error)
                reasons.append(f"{location.label} {error}")
                self._listener.say(f"{file.name}: {reasons[-1]}")
        raise SourceFailed("; ".join(reasons) or "no source of it is set")

    def _take(
        self, location: Location, file: OfficialFile, lacking: Sequence[OfficialFile]
    ) -> dict[str, Path]:
        # From anybody but the operator SMPL is not taken, even if an archive should hold it.
        others = [o for o in lacking if o is not file and (location.of_operator or not o.operator_only)]
        if location.path is not None:
            if not location.path.is_file():
                raise SourceFailed("is not there")
            return self._accept(location.path, location, [file, *others], movable=False)
        # Without the query: a presigned URL's signature changes. Hashed: its path may be secret.
        key = hashlib.sha256(re.split("[?#]", location.address)[0].encode()).hexdigest()
        path = self.partial_folder / f"{file.role}-{key[:12]}.part"
        reserve = self._settings.reserve_disk_bytes
        with PartialFile(path, reserve_bytes=reserve, source=key) as partial:
            commit = self._download(location.address, partial, file.name)
        try:
            installed = self._accept(path, location, [file, *others], movable=True)
        finally:
            partial.discard()
        if commit:
            self._pin(location.address, commit)
        return installed

    def _download(self, address: str, partial: PartialFile, name: str) -> str | None:
        """Fetches what is missing of a file; returns the hub's commit, where there is one."""
        host = address.split("/")[2]
        patience = Patience(
            attempts=1 if host in self._silent else self._settings.attempts,
            forgives=True,  # so that a host which cuts every connection still gets there
            min_bytes_per_second=MIN_BYTES_PER_SECOND,
            first_wait_seconds=self._settings.retry_seconds,
            longest_wait_seconds=LONGEST_WAIT_SECONDS,
        )

        def report(done: int, total: int | None) -> None:
            self._listener.progress(name, done, total)

        if address.startswith("s3://"):
            from handler.transfer.s3 import s3_file  # takes a second, and most operators have no s3:// source

            bucket, _, name = address.removeprefix("s3://").partition("/")
            file = s3_file(self._s3, bucket, name)
            download(file, partial, patience, check=unstoppable, report=report)
            return None
        rules = operator_rules(self._settings)
        source = HttpFile(
            check_url(address, rules),
            rules,
            check=unstoppable,
            ssl_context=self._authorities,
            # Some servers call a .tar.gz a tar with the content coding gzip; it must stay as it is.
            takes_encoded=True,
        )
        try:
            download(source.open_at, partial, patience, check=unstoppable, report=report)
        except TransferError as error:
            if error.problem is Problem.UNAVAILABLE and not partial.size:
                self._silent.add(host)
            raise
        return source.commit

    @cached_property
    def _s3(self) -> "S3Client":
        from handler.transfer.s3 import s3_client

        bucket = BucketSettings.model_construct(
            **dict(weight_storage()),
            connect_seconds=self._settings.connect_seconds,
            read_seconds=self._settings.read_seconds,
        )
        return s3_client(bucket, ca_file=self._settings.ca_file)

    def _accept(
        self, path: Path, location: Location, wanted: Sequence[OfficialFile], *, movable: bool
    ) -> dict[str, Path]:
        """Checks what came and puts it in its place: the first of `wanted`, others as they are found."""
        first = wanted[0]
        kind = archive_kind(path, wanted)
        if kind == "file":
            suffix = ".npz" if zipfile.is_zipfile(path) else ".pkl"  # of SMPL, which comes as either
            return {first.role: self._install(path, suffix, first, movable=movable)}
        with tempfile.TemporaryDirectory(dir=self.partial_folder) as folder:
            reserve = self._settings.reserve_disk_bytes
            found = unpack(path, kind, wanted, Path(folder), reserve_bytes=reserve)
            if first.role not in found:
                raise SourceFailed(f"holds no {first.name}")
            installed = {}
            for file in (f for f in wanted if f.role in found):
                unpacked = found[file.role]
                try:
                    installed[file.role] = self._install(unpacked, unpacked.suffix, file, movable=True)
                except SourceFailed as error:
                    if file is first:
                        raise
                    self._listener.say(f"{file.name}: {location.label} {error}")
        # All that was wanted of it has been taken: it need not be fetched again for a further file.
        self._failed[location.address] = "does not hold it"
        return installed

    def _install(self, path: Path, suffix: str, file: OfficialFile, *, movable: bool) -> Path:
        """Moves or copies a file into its place, if it is what it should be and what was recorded."""
        target = place_in_store(self._models, file)
        if file.operator_only:  # a checkpoint may go by .ckpt or .pth; only SMPL is of two kinds
            target = target.with_suffix(suffix)
        if problem := content_problem(path, target.suffix):
            raise SourceFailed(problem)
        sha256 = sha256_of(path)
        if self.lock.differs(file.key, sha256):
            raise SourceFailed(f"gave another file than the one recorded in {self._lock_path.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if movable:
            path.chmod(0o644)  # a shared store must be readable for the worker's user
            path.replace(target)
        else:
            _link_or_copy(path, target, self._settings.reserve_disk_bytes)
        if file.key not in self.lock.files:
            self.lock = self.lock.with_file(file, sha256, target.stat().st_size)
            write_lock(self._lock_path, self.lock)
        return target

    def _pin(self, address: str, commit: str) -> None:
        """Records the commit behind a hub's address, `.../OWNER/NAME/resolve/REVISION/FILE`."""
        parts = urlsplit(address).path.strip("/").split("/")
        if len(parts) > 4 and parts[2] == "resolve":
            key = f"{parts[0]}/{parts[1]}@{parts[3]}"
            if parts[3] != commit and key not in self.lock.revisions:
                self.lock = self.lock.with_revision(key, commit)
                write_lock(self._lock_path, self.lock)
                self._listener.say(f"{key} is pinned to {commit}")


def _authorities(ca_file: Path | None) -> ssl.SSLContext:
    context = httpcore2.default_ssl_context()
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
    except ssl.SSLError as error:
        raise WeightsInvalid(f"WEIGHTS_CA_FILE={ca_file} holds no certificate in PEM form") from error
    except OSError as error:
        raise WeightsInvalid(f"WEIGHTS_CA_FILE={ca_file} cannot be read: {error.strerror}") from error
    return context


def _link_or_copy(path: Path, target: Path, reserve_bytes: int) -> None:
    """The same file in a second place: a hard link on the same disk, else a copy that appears whole."""
    target.unlink(missing_ok=True)
    try:
        os.link(path.resolve(), target)
    except OSError:
        check_room(target.parent, path.stat().st_size, reserve_bytes)
        with path.open("rb") as source, written_whole(target) as copy:
            shutil.copyfileobj(source, copy, 2**20)


@contextmanager
def _told_to_the_operator() -> Iterator[None]:
    """A TransferError as SourceFailed, or as StoreUnavailable if the disk is full."""
    try:
        yield
    except TransferError as error:
        if error.problem is Problem.DISK_FULL:
            raise StoreUnavailable(
                f"the disk of the weights store has {error.reason}: make room, or put the store elsewhere "
                "(MODEL_STORE). What was fetched is kept"
            ) from error
        raise SourceFailed(_WORDS.get(error.problem, "{}").format(error.reason)) from error
