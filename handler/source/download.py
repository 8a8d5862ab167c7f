"""A video URL becomes a local file, or a coded error and nothing on disk.

Never hand a URL to a decoder: FFmpeg follows redirects to anywhere, and some versions drop frames over
HTTP without an error.
"""

import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from handler.context import Check, unstoppable
from handler.errors import ErrorCode, InputError, JobError, SourceError, WorkerError
from handler.settings import IntakeSettings
from handler.transfer.addresses import check_url
from handler.transfer.download import Patience
from handler.transfer.download import download as fetch
from handler.transfer.errors import Problem, TransferError
from handler.transfer.http import HttpFile
from handler.transfer.partial import PartialFile

CODES: dict[Problem, tuple[type[JobError], ErrorCode, str]] = {
    Problem.ADDRESS_REFUSED: (InputError, ErrorCode.URL_NOT_ALLOWED, "{}"),
    Problem.NOT_HTTPS: (InputError, ErrorCode.URL_NOT_ALLOWED, "{}"),
    Problem.HOST_UNKNOWN: (SourceError, ErrorCode.DOWNLOAD_NOT_FOUND, "the server {}"),
    Problem.NOT_FOUND: (SourceError, ErrorCode.DOWNLOAD_NOT_FOUND, "there is no file at this URL ({})"),
    Problem.LINK_REFUSED: (
        SourceError,
        ErrorCode.DOWNLOAD_DENIED,
        "the server refused the link ({}): it has expired or is not valid; a new link is needed",
    ),
    Problem.REFUSED: (SourceError, ErrorCode.DOWNLOAD_DENIED, "the server {}"),
    Problem.ENCODED: (
        SourceError,
        ErrorCode.VIDEO_UNREADABLE,
        "the server {}; store it without Content-Encoding",
    ),
    Problem.NOT_TRUSTED: (SourceError, ErrorCode.DOWNLOAD_FAILED, "the server {}"),
    Problem.TOO_LARGE: (InputError, ErrorCode.VIDEO_TOO_LARGE, "the video is {}"),
    Problem.DISK_FULL: (WorkerError, ErrorCode.DISK_FULL, "this worker's disk has no room for the video"),
    Problem.CHANGED: (SourceError, ErrorCode.DOWNLOAD_FAILED, "the download failed: the server {}"),
    Problem.UNAVAILABLE: (SourceError, ErrorCode.DOWNLOAD_FAILED, "the download failed: the server {}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A video on the local disk."""

    path: Path  # the name says nothing about the URL
    sha256: str | None = None  # of its bytes, if the download has computed it


def download(
    url: str,
    into: Path,
    settings: IntakeSettings,
    *,
    check: Check = unstoppable,
    ssl_context: ssl.SSLContext | None = None,
) -> Source:
    """Fetch a video into the folder `into`; after an error nothing is left there.

    Broken transfers are resumed, within `download_attempts` and `download_seconds`. `check` is called while
    waiting and after every chunk; what it raises ends the download. Memory: one network chunk.

    Raises:
        InputError: URL_NOT_ALLOWED, VIDEO_TOO_LARGE.
        SourceError: DOWNLOAD_NOT_FOUND, DOWNLOAD_DENIED, DOWNLOAD_FAILED, VIDEO_UNREADABLE.
        WorkerError: DISK_FULL.
    """
    deadline = time.monotonic() + settings.download_seconds
    patience = Patience(
        attempts=settings.download_attempts,
        min_bytes_per_second=settings.min_bytes_per_second,
        min_rate_seconds=settings.min_rate_seconds,
    )

    def check_all() -> None:
        check()
        if time.monotonic() > deadline:
            message = f"the download took longer than {settings.download_seconds:.0f} s"
            raise SourceError(ErrorCode.DOWNLOAD_FAILED, message)

    path = into / "video.part"
    try:
        address = check_url(url, settings)
        file = HttpFile(address, settings, check=check_all, ssl_context=ssl_context)
        reserve = settings.reserve_disk_bytes
        with PartialFile(path, reserve_bytes=reserve, max_bytes=settings.max_bytes) as partial:
            fetch(file.open_at, partial, patience, check=check_all)
        return Source(path=path.rename(into / "video"), sha256=partial.sha256)
    except TransferError as error:
        kind, code, message = CODES[error.problem]
        raise kind(code, message.format(error.reason)) from error
    finally:
        path.unlink(missing_ok=True)


def local_source(path: Path, settings: IntakeSettings) -> Source:
    """A file that is already here, instead of a download; it is not copied and never deleted.

    Raises:
        SourceError: DOWNLOAD_NOT_FOUND, DOWNLOAD_DENIED if it is not a regular file.
        InputError: VIDEO_TOO_LARGE.
        OSError: it may not be read.
    """
    if not path.exists():
        raise SourceError(ErrorCode.DOWNLOAD_NOT_FOUND, "there is no such file")
    if not path.is_file():
        raise SourceError(
            ErrorCode.DOWNLOAD_DENIED, f"this is {'a folder' if path.is_dir() else 'not a file'}"
        )
    path.open("rb").close()  # may it be read?
    if path.stat().st_size > settings.max_bytes:
        message = f"the video is larger than this worker's limit of {settings.max_bytes} bytes"
        raise InputError(ErrorCode.VIDEO_TOO_LARGE, message)
    return Source(path=path)
