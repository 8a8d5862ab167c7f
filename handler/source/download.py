"""A video URL becomes a local file, or a coded error and nothing on disk. Knows nothing of video.

Never hand a URL to a decoder: FFmpeg follows redirects to anywhere, and some versions drop frames over
HTTP without an error.
"""

import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from handler.errors import InputError, SourceError
from handler.settings import IntakeSettings
from handler.transfer.addresses import AddressRefused, Resolve, check_url, resolve_host
from handler.transfer.connections import Check, backoff_seconds, open_connections, wait
from handler.transfer.http import Report, TryAgain, transfer
from handler.transfer.partial import FreeBytes, PartialFile, free_bytes, translated_disk_errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A video on the local disk.

    Attributes:
        path: the file; its name says nothing about the URL.
        size_bytes: its length.
        sha256: of its bytes; None for a local file that nobody has read yet.
        etag: the server's version tag, if it gave one.
        num_attempts: requests it took; 0 for a local file.
    """

    path: Path
    size_bytes: int
    sha256: str | None = None
    etag: str | None = None
    num_attempts: int = 0


def _nothing() -> None:
    """The check of a download that nobody can cancel."""


def _nobody(num_bytes: int, total: int | None) -> None:
    """The report nobody reads."""


def download(
    url: str,
    into: Path,
    settings: IntakeSettings,
    *,
    report: Report = _nobody,
    check: Check = _nothing,
    resolve: Resolve = resolve_host,
    ssl_context: ssl.SSLContext | None = None,
    free: FreeBytes = free_bytes,
) -> Source:
    """Fetch a video into the folder `into`; after an error nothing is left there.

    Memory: one network chunk. Broken transfers are resumed, within `download_attempts` and
    `download_seconds`.

    Args:
        url: where the video is; treated as a secret.
        into: an existing folder of this job alone.
        settings: limits and allowed addresses.
        report: called with (bytes so far, bytes in all or None) after every chunk.
        check: called while waiting and after every chunk; what it raises ends the download.
        resolve: addresses of a host; tests hand in their own.
        ssl_context: default: the usual certificate authorities.
        free: bytes free on a folder's disk.

    Raises:
        InputError: URL_NOT_ALLOWED, VIDEO_TOO_LARGE.
        SourceError: DOWNLOAD_NOT_FOUND, DOWNLOAD_DENIED, DOWNLOAD_FAILED, VIDEO_UNREADABLE.
        WorkerError: DISK_FULL.
    """
    try:
        address = check_url(url, settings)
    except AddressRefused as error:
        raise InputError("URL_NOT_ALLOWED", str(error)) from None
    deadline = time.monotonic() + settings.download_seconds

    def check_all() -> None:
        check()
        if time.monotonic() > deadline:
            raise SourceError(
                "DOWNLOAD_FAILED", f"the download took longer than {settings.download_seconds:.0f} s"
            )

    path = into / "video.part"
    try:
        with (
            translated_disk_errors(),
            open_connections(settings, check=check_all, resolve=resolve, ssl_context=ssl_context) as pool,
            PartialFile(path, settings, free) as partial,
        ):
            for attempt in range(1, settings.download_attempts + 1):
                try:
                    transfer(pool, address, partial, settings, report)
                    break
                except TryAgain as reason:
                    if attempt == settings.download_attempts:
                        raise SourceError(
                            "DOWNLOAD_FAILED", f"the download failed {attempt} times, at last: {reason}"
                        ) from reason
                    wait(backoff_seconds(attempt, reason.wait_seconds or 0.0), check_all)
        return Source(
            path=path.rename(into / "video"),
            size_bytes=partial.size,
            sha256=partial.sha256,
            etag=partial.etag,
            num_attempts=attempt,
        )
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def local_source(path: Path, settings: IntakeSettings) -> Source:
    """A file that is already here, instead of a download; it is not copied and never deleted.

    Raises:
        SourceError: DOWNLOAD_NOT_FOUND, DOWNLOAD_DENIED if it is no plain file.
        InputError: VIDEO_TOO_LARGE.
    """
    if not path.exists():
        raise SourceError("DOWNLOAD_NOT_FOUND", "there is no such file")
    if not path.is_file():
        raise SourceError("DOWNLOAD_DENIED", "this is not a file")
    size = path.stat().st_size
    if size > settings.max_bytes:
        raise InputError(
            "VIDEO_TOO_LARGE", f"the video is larger than this worker's limit of {settings.max_bytes} bytes"
        )
    return Source(path=path, size_bytes=size)
