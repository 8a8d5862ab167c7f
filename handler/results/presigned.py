"""Results to presigned PUT URLs given in the job, one per file.

The URLs are a caller's and a secret: they are checked like a video's, and no message holds a part of one.
What a store would refuse after an hour of work, and what a URL itself tells, is refused first.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx2
from pydantic import SecretStr

from handler.context import Check
from handler.errors import ErrorCode, InputError, ResultError
from handler.job import Artifact, ArtifactKind
from handler.results.store import LocalFile, Store, upload_errors_coded
from handler.settings import BucketSettings, IntakeSettings
from handler.transfer.addresses import check_url
from handler.transfer.attempts import READ_BYTES, Section, attempt
from handler.transfer.connections import Headers, requested
from handler.transfer.errors import Problem, TransferError, is_busy

MAX_PUT_BYTES = 5 * 1000**3  # S3's limit for one PUT
CLOCKS_DIFFER_SECONDS = 60

# AWS and all that follow it, Google, Alibaba, Tencent: the names of the headers the signature covers.
_HEADER_LISTS = ("x-amz-signedheaders", "x-goog-signedheaders", "x-oss-additional-headers", "q-header-list")
# A signed Content-Length cannot match: the file is made after the URL was signed.
_FREE_TO_SIGN = {"host", "content-type"}
_HEADER_NAME = re.compile(r"[a-z0-9-]{1,64}")


class PresignedUrls(Store):
    """The URLs as a store that can be written and not read; a PUT that broke off leaves nothing.

    `intake` says which addresses are allowed, `bucket` has the limits of an upload.

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
    ) -> None:
        self._intake = intake
        self._limits = bucket
        with upload_errors_coded("an upload URL"):
            self._urls = {kind: check_url(url.get_secret_value(), intake) for kind, url in put_urls.items()}
        for kind, url in self._urls.items():
            _check_query(_query(url), kind)

    def key(self, kind: ArtifactKind, sha256: str) -> None:
        """None: only the caller knows what the URLs lead to."""

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Send a file in one PUT with its length; sent again when that can help.

        Memory: one network chunk.

        Raises:
            InputError: URL_NOT_ALLOWED.
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
        if {"sv", "sig"} <= _query(url).keys():  # a shared access signature of Azure
            headers["x-ms-blob-type"] = "BlockBlob"
        with file.path.open("rb") as stream:
            section = Section(stream, 0, file.size_bytes, check)
            with requested(
                "PUT",
                url,
                headers,
                rules=self._intake,
                limits=self._limits,
                check=check,
                content=iter(partial(section.read, READ_BYTES), b""),
            ) as answer:
                status = answer.status
        if is_busy(status):
            raise TransferError(Problem.UNAVAILABLE, f"answered HTTP {status}")
        if 300 <= status < 400:
            raise TransferError(Problem.REFUSED, f"redirects (HTTP {status})")
        if not 200 <= status < 300:
            raise TransferError(Problem.LINK_REFUSED, f"HTTP {status}")


def _query(url: httpx2.URL) -> dict[str, str]:
    return {name.lower(): value for name, value in url.params.multi_items()}


def _check_query(query: Mapping[str, str], kind: str) -> None:
    if names := _foreign_headers(query):
        raise InputError(
            ErrorCode.INPUT_INVALID,
            f"output.put_urls: the URL of {kind} is signed for {', '.join(names[:8])}, which this worker "
            "does not send or cannot know; sign no header but host and Content-Type",
            stage="validate",
        )
    try:
        end = _end(query)
        has_expired = end is not None and end + timedelta(seconds=CLOCKS_DIFFER_SECONDS) < datetime.now(UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        has_expired = False  # not a time; the store will say what it thinks
    if has_expired:
        raise ResultError(ErrorCode.UPLOAD_DENIED, f"the upload URL of {kind} has expired", stage="validate")


def _foreign_headers(query: Mapping[str, str]) -> list[str]:
    """Names of signed headers that the worker does not send, or cannot send with the signed value."""
    names = {name for key in _HEADER_LISTS for name in query.get(key, "").lower().split(";") if name}
    if "content-md5" in query:  # how boto3 writes it into the older URLs, which list no headers
        names.add("content-md5")
    return sorted(name if _HEADER_NAME.fullmatch(name) else "(unreadable)" for name in names - _FREE_TO_SIGN)


def _end(query: Mapping[str, str]) -> datetime | None:
    """Until when the URL holds; None if it does not say."""
    for vendor in ("x-amz", "x-goog", "x-oss"):
        start, seconds = query.get(f"{vendor}-date"), query.get(f"{vendor}-expires")
        if start is not None and seconds is not None:
            signed = datetime.strptime(start, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return signed + timedelta(seconds=int(seconds))
    if "expires" in query:  # AWS's and Google's older form
        return datetime.fromtimestamp(int(query["expires"]), UTC)
    if "se" in query and "sig" in query:  # Azure
        end = datetime.fromisoformat(query["se"])
        return end if end.tzinfo else end.replace(tzinfo=UTC)
    return None
