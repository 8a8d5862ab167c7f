"""Results to presigned PUT URLs given in the job, one per file. Knows nothing of what it stores.

The URLs are a caller's and a secret: they are checked like a video's, and no message holds a part of one.
"""

import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import httpcore2
import httpx2
from pydantic import SecretStr

from handler.errors import InputError, JobError, ResultError
from handler.job import Artifact, ArtifactKind
from handler.results.signed import foreign_headers, has_expired, is_azure
from handler.results.store import READ_BYTES, LocalFile, Section
from handler.settings import BucketSettings, IntakeSettings
from handler.transfer.addresses import AddressRefused, Resolve, check_url, resolve_host
from handler.transfer.attempts import attempt
from handler.transfer.connections import Check, open_connections

MAX_PUT_BYTES = 5 * 1000**3  # S3's limit for one PUT
NOW_NOT_LATER = {408, 425, 429}  # the 4xx answers that mean "try again"


class PresignedUrls:
    """The URLs as a store that can be written and not read.

    Args:
        put_urls: one per file.
        intake: which addresses are allowed.
        bucket: limits of an upload.
        resolve: addresses of a host; tests hand in their own.
        ssl_context: default: the usual certificate authorities.

    Raises:
        InputError: URL_NOT_ALLOWED; INPUT_INVALID, a URL signs headers that are not sent.
        ResultError: UPLOAD_DENIED, a URL has expired.
    """

    bucket = None

    def __init__(
        self,
        put_urls: Mapping[ArtifactKind, SecretStr],
        *,
        intake: IntakeSettings,
        bucket: BucketSettings,
        resolve: Resolve = resolve_host,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._intake = intake
        self._limits = bucket
        self._resolve = resolve
        self._ssl_context = ssl_context
        try:
            self._urls = {kind: check_url(url.get_secret_value(), intake) for kind, url in put_urls.items()}
        except AddressRefused as error:
            raise _not_allowed(error) from None
        for kind, url in self._urls.items():
            _check_signature(url, kind)

    def key(self, kind: ArtifactKind, sha256: str) -> None:
        """None: only the caller knows what the URLs lead to."""

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Send a file in one PUT with its length; sent again when that can help.

        Memory: one network chunk.

        Raises:
            InputError: URL_NOT_ALLOWED.
            ResultError: UPLOAD_DENIED, UPLOAD_FAILED.
        """
        if file.size_bytes > MAX_PUT_BYTES:
            raise ResultError(
                "UPLOAD_DENIED", f"{file.kind} is too large for one PUT; use a bucket", stage="upload"
            )
        attempt(lambda: self._put_once(file, check), attempts=self._limits.attempts, check=check)
        return file.artifact(key=None)

    def _put_once(self, file: LocalFile, check: Check) -> None:
        """Send it once. The status decides; the answer's body may be long or never end, and is not read."""
        url = self._urls[file.kind]
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        seconds = {"connect": self._limits.connect_seconds, "pool": self._limits.connect_seconds}
        seconds |= {"read": self._limits.read_seconds, "write": self._limits.read_seconds}
        # AWS answers 501 to a chunked body: the length must be said.
        headers = [
            ("Content-Length", str(file.size_bytes)),
            ("Content-Type", file.content_type),
            ("User-Agent", "hmr2-phalp-worker"),
        ]
        if is_azure(url):
            headers.append(("x-ms-blob-type", "BlockBlob"))
        try:
            with (
                file.path.open("rb") as stream,
                open_connections(
                    self._intake, check=check, resolve=self._resolve, ssl_context=self._ssl_context
                ) as pool,
                pool.stream(
                    "PUT",
                    target,
                    headers=headers,
                    content=_chunks(Section(stream, 0, file.size_bytes, check)),
                    extensions={"timeout": seconds},
                ) as answer,
            ):
                status = answer.status
        except AddressRefused as error:
            raise _not_allowed(error) from None
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
            raise _failed(file.kind, _reason(error)) from error
        _judge(status, file.kind)

    def summary(self, check: Check) -> bytes | None:
        """None: a URL signed for PUT cannot be read."""
        check()
        return None

    def holds(self, artifact: Artifact, check: Check) -> bool:
        """False: nobody may look."""
        check()
        return False

    def end_uploads(self, check: Check) -> None:
        """Nothing: a PUT that broke off leaves nothing."""


def _chunks(section: Section) -> Iterator[bytes]:
    while chunk := section.read(READ_BYTES):
        yield chunk


def _check_signature(url: httpx2.URL, kind: str) -> None:
    """Refuse at once what the store would refuse after all the work."""
    if names := foreign_headers(url):
        raise InputError(
            "INPUT_INVALID",
            f"output.put_urls: the URL of {kind} is signed for {', '.join(names[:8])}, which this worker "
            "does not send or cannot know; sign no header but host and Content-Type",
            stage="validate",
        )
    if has_expired(url, datetime.now(UTC)):
        raise ResultError("UPLOAD_DENIED", f"the upload URL of {kind} has expired", stage="validate")


def _judge(status: int, kind: str) -> None:
    """Nothing for success; else what the answer means."""
    if 200 <= status < 300:
        return
    if status >= 500 or status in NOW_NOT_LATER:
        raise _failed(kind, f"HTTP {status}")
    if 300 <= status < 400:
        meaning = "it redirects"
    else:
        meaning = "it has expired, or was signed for another method or Content-Type; a new URL is needed"
    raise ResultError(
        "UPLOAD_DENIED", f"the upload URL of {kind} was refused (HTTP {status}): {meaning}", stage="upload"
    )


def _failed(kind: str, reason: str) -> ResultError:
    return ResultError("UPLOAD_FAILED", f"the upload of {kind} failed: {reason}", stage="upload")


def _reason(error: Exception) -> str:
    if isinstance(error, httpcore2.TimeoutException):
        return "the server was silent for too long"
    if isinstance(error, httpcore2.ConnectError):
        return "no connection"
    return "the connection broke"


def _not_allowed(error: AddressRefused) -> JobError:
    return InputError("URL_NOT_ALLOWED", f"an upload URL: {error}", stage="upload")
