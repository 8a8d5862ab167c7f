"""Results to presigned PUT URLs given in the job, one per file. Knows nothing of what it stores.

The URLs are a caller's and a secret: they are checked like a video's, and no message holds a part of one.
"""

import ssl
from collections.abc import Iterator, Mapping

import httpcore2
from pydantic import SecretStr

from handler.addresses import AddressRefused, Resolve, check_url, resolve_host
from handler.connections import Check, backoff_seconds, open_connections, wait
from handler.errors import InputError, JobError, ResultError
from handler.job import Artifact, ArtifactKind
from handler.results.store import READ_BYTES, Interrupt, LocalFile, Section
from handler.settings import BucketSettings, IntakeSettings

MAX_PUT_BYTES = 5 * 1000**3  # S3's limit for one PUT
NOW_NOT_LATER = {408, 425, 429}  # the 4xx answers that mean "try again"


class _TryAgain(Exception):
    """This attempt failed, the next may not; the message may be shown."""


class PresignedUrls:
    """The URLs as a store that can be written and not read.

    Args:
        put_urls: one per file.
        intake: which addresses are allowed.
        bucket: limits of an upload.
        resolve: addresses of a host; tests hand in their own.
        ssl_context: default: the usual certificate authorities.

    Raises:
        InputError: URL_NOT_ALLOWED.
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

    def key(self, kind: ArtifactKind) -> None:
        """None: only the caller knows what the URLs lead to."""

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Send a file in one PUT with its length; tried again when that can help.

        Memory: one network chunk.

        Raises:
            InputError: URL_NOT_ALLOWED.
            ResultError: UPLOAD_DENIED, UPLOAD_FAILED.
        """
        if file.size_bytes > MAX_PUT_BYTES:
            raise ResultError(
                "UPLOAD_DENIED", f"{file.kind} is too large for one PUT; use a bucket", stage="upload"
            )
        url = self._urls[file.kind]
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        attempts = self._limits.attempts
        for attempt in range(1, attempts + 1):
            try:
                self._put_once(target, file, check)
                break
            except _TryAgain as reason:
                if attempt == attempts:
                    message = f"the upload of {file.kind} failed {attempt} times, at last: {reason}"
                    raise ResultError("UPLOAD_FAILED", message, stage="upload") from reason
            wait(backoff_seconds(attempt), check)
        return file.artifact(key=None)

    def _put_once(self, target: httpcore2.URL, file: LocalFile, check: Check) -> None:
        seconds = {"connect": self._limits.connect_seconds, "pool": self._limits.connect_seconds}
        seconds |= {"read": self._limits.read_seconds, "write": self._limits.read_seconds}
        # AWS answers 501 to a chunked body: the length must be said.
        headers = [
            ("Content-Length", str(file.size_bytes)),
            ("Content-Type", file.content_type),
            ("User-Agent", "hmr2-phalp-worker"),
        ]
        try:
            with (
                file.path.open("rb") as stream,
                open_connections(
                    self._intake, check=check, resolve=self._resolve, ssl_context=self._ssl_context
                ) as pool,
            ):
                body = _chunks(Section(stream, 0, file.size_bytes, check))
                answer = pool.request(
                    "PUT", target, headers=headers, content=body, extensions={"timeout": seconds}
                )
        except AddressRefused as error:
            raise _not_allowed(error) from None
        except Interrupt as interrupt:
            raise interrupt.error from None
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError) as error:
            raise _TryAgain(_reason(error)) from error
        _judge(answer.status, file.kind)

    def summary(self, check: Check) -> bytes | None:
        """None: a URL signed for PUT cannot be read."""
        check()
        return None

    def holds(self, artifact: Artifact, check: Check) -> bool:
        """True: what was answered with 200 was stored, and nobody may look."""
        check()
        return True


def _chunks(section: Section) -> Iterator[bytes]:
    while chunk := section.read(READ_BYTES):
        yield chunk


def _judge(status: int, kind: str) -> None:
    """Nothing for success; else what the answer means."""
    if 200 <= status < 300:
        return
    if status >= 500 or status in NOW_NOT_LATER:
        raise _TryAgain(f"HTTP {status}")
    if 300 <= status < 400:
        meaning = "it redirects"
    else:
        meaning = "it has expired, or was signed for another method or Content-Type; a new URL is needed"
    raise ResultError(
        "UPLOAD_DENIED", f"the upload URL of {kind} was refused (HTTP {status}): {meaning}", stage="upload"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, httpcore2.TimeoutException):
        return "the server was silent for too long"
    if isinstance(error, httpcore2.ConnectError):
        return "no connection"
    return "the connection broke"


def _not_allowed(error: AddressRefused) -> JobError:
    return InputError("URL_NOT_ALLOWED", f"an upload URL: {error}", stage="upload")
