"""Results to presigned PUT URLs given in the job, one per file.

The URLs are a caller's and a secret: they are checked like a video's, and no message holds a part of one.
"""

import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import httpx2
from pydantic import SecretStr

from handler.context import Check
from handler.errors import ErrorCode, InputError, ResultError
from handler.job import Artifact, ArtifactKind
from handler.results.signed import foreign_headers, has_expired, is_azure
from handler.results.store import LocalFile, Store, upload_errors_coded
from handler.settings import BucketSettings, IntakeSettings
from handler.transfer.addresses import check_url
from handler.transfer.attempts import READ_BYTES, Section, attempt
from handler.transfer.connections import Headers, requested
from handler.transfer.errors import Problem, TransferError, is_busy

MAX_PUT_BYTES = 5 * 1000**3  # S3's limit for one PUT


class PresignedUrls(Store):
    """The URLs as a store that can be written and not read; a PUT that broke off leaves nothing.

    Args:
        put_urls: one per file.
        intake: which addresses are allowed.
        bucket: limits of an upload.
        ssl_context: default: the usual certificate authorities.

    Raises:
        InputError: URL_NOT_ALLOWED; INPUT_INVALID, a URL signs headers that are not sent.
        ResultError: UPLOAD_DENIED, a URL has expired.
    """

    def __init__(
        self,
        put_urls: Mapping[ArtifactKind, SecretStr],
        *,
        intake: IntakeSettings,
        bucket: BucketSettings,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._intake = intake
        self._limits = bucket
        self._ssl_context = ssl_context
        with upload_errors_coded("an upload URL"):
            self._urls = {kind: check_url(url.get_secret_value(), intake) for kind, url in put_urls.items()}
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
                ErrorCode.UPLOAD_DENIED, f"{file.kind} is too large for one PUT; use a bucket", stage="upload"
            )
        with upload_errors_coded(f"the upload URL of {file.kind}"):
            attempt(lambda: self._put_once(file, check), attempts=self._limits.attempts, check=check)
        return file.artifact(key=None)

    def _put_once(self, file: LocalFile, check: Check) -> None:
        """Send it once. The status decides; the answer's body may be long or never end, and is not read."""
        url = self._urls[file.kind]
        # AWS answers 501 to a chunked body: the length must be said.
        headers: Headers = {"Content-Length": str(file.size_bytes), "Content-Type": file.content_type}
        if is_azure(url):
            headers["x-ms-blob-type"] = "BlockBlob"
        with (
            file.path.open("rb") as stream,
            requested(
                "PUT",
                url,
                headers,
                rules=self._intake,
                limits=self._limits,
                check=check,
                content=_chunks(Section(stream, 0, file.size_bytes, check)),
                ssl_context=self._ssl_context,
            ) as answer,
        ):
            _refuse_failures(answer.status)


def _chunks(section: Section) -> Iterator[bytes]:
    while chunk := section.read(READ_BYTES):
        yield chunk


def _check_signature(url: httpx2.URL, kind: str) -> None:
    """Refuse at once what the store would refuse after all the work."""
    if names := foreign_headers(url):
        raise InputError(
            ErrorCode.INPUT_INVALID,
            f"output.put_urls: the URL of {kind} is signed for {', '.join(names[:8])}, which this worker "
            "does not send or cannot know; sign no header but host and Content-Type",
            stage="validate",
        )
    if has_expired(url, datetime.now(UTC)):
        raise ResultError(ErrorCode.UPLOAD_DENIED, f"the upload URL of {kind} has expired", stage="validate")


def _refuse_failures(status: int) -> None:
    if is_busy(status):
        raise TransferError(Problem.UNAVAILABLE, f"answered HTTP {status}")
    if 300 <= status < 400:
        raise TransferError(Problem.REFUSED, f"redirects (HTTP {status})")
    if not 200 <= status < 300:
        raise TransferError(Problem.LINK_REFUSED, f"HTTP {status}")
