"""Results in an S3 bucket with the worker's own credentials, by boto3. Knows nothing of what it stores."""

import contextlib
import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING, Literal, TypeVar
from urllib.parse import urlsplit

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from handler.errors import JobError, ResultError
from handler.job import Artifact, ArtifactKind
from handler.results.keys import object_key
from handler.results.store import READ_BYTES, LocalFile, Section
from handler.settings import BucketSettings
from handler.transfer.attempts import attempt, limited
from handler.transfer.connections import Check

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_PARTS = 10_000  # S3's limit
MAX_SUMMARY_BYTES = 1_000_000
TIDY_SECONDS = 5.0  # nothing waits longer for what only saves space
DEFAULT_REGION = "us-east-1"  # what stores without regions of their own expect in a signature
AWS_DOMAINS = (  # of all its partitions
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".cloud.adc-e.uk",
    ".csp.hci.ic.gov",
)
# Refused now; the same request may succeed in a moment.
BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
BUSY |= {"OperationAborted"}  # somebody else writes the same object
BUSY |= {"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}  # damaged on the way

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class _UploadGone(ResultError):
    """A multipart upload is not known any more: it is complete, or was ended by somebody else."""


class Bucket:
    """One job's prefix in a bucket.

    Args:
        settings: address, credentials and limits.
        bucket: its name.
        prefix: ends with a slash, checked by `keys.key_prefix`.
    """

    def __init__(self, settings: BucketSettings, *, bucket: str, prefix: str) -> None:
        self.bucket: str | None = bucket
        self._name = bucket
        self._prefix = prefix
        self._limits = settings
        self._client = _client(settings)

    def key(self, kind: ArtifactKind, sha256: str) -> str:
        """The object key of a file."""
        return object_key(self._prefix, kind, sha256)

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Upload a file and ask for its length afterwards; in parts if it is larger than one.

        A failed or cancelled multipart upload is aborted. When the store says that an upload failed, or does
        not answer, the file is looked for before it counts as lost. Memory: one network chunk.

        Raises:
            ResultError: UPLOAD_DENIED, UPLOAD_FAILED.
        """
        artifact = file.artifact(self.key(file.kind, file.sha256))
        for again in (True, False):
            # Aborted last: a store that gave no answer may still be at it. Parts that nobody aborts are
            # stored, and paid for, without being visible.
            with contextlib.ExitStack() as unfinished:
                try:
                    self._send(file, check, unfinished)
                    break
                except ResultError as error:
                    if self._is_there(artifact, check):
                        log.info("an upload seemed to fail, but the file is there", kind=file.kind)
                        break
                    if not (again and isinstance(error, _UploadGone)):
                        raise
        return artifact

    def _send(self, file: LocalFile, check: Check, unfinished: contextlib.ExitStack) -> None:
        key = self.key(file.kind, file.sha256)
        with file.path.open("rb") as stream:
            if file.size_bytes > self._limits.part_bytes:
                self._send_in_parts(key, file, stream, check, unfinished)
            else:
                self._call(
                    lambda: self._client.put_object(
                        Bucket=self._name,
                        Key=key,
                        Body=Section(stream, 0, file.size_bytes, check),  # type: ignore[arg-type] # the stubs ask for a whole IO[bytes]; read, seek and tell do
                        ContentType=file.content_type,
                    ),
                    check,
                )
        if not self._arrived(key, file.size_bytes, check):
            raise ResultError("UPLOAD_FAILED", f"{file.kind} did not arrive whole", stage="upload")

    def _send_in_parts(
        self, key: str, file: LocalFile, stream: IO[bytes], check: Check, unfinished: contextlib.ExitStack
    ) -> None:
        client, name = self._client, self._name
        size = max(self._limits.part_bytes, -(-file.size_bytes // MAX_PARTS))
        upload_id = self._call(
            lambda: client.create_multipart_upload(Bucket=name, Key=key, ContentType=file.content_type)[
                "UploadId"
            ],
            check,
        )
        unfinished.callback(lambda: self._abort(key, upload_id, limited(_nothing, TIDY_SECONDS)))

        def send_part(number: int, start: int) -> "CompletedPartTypeDef":
            part = client.upload_part(
                Bucket=name,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=Section(stream, start, min(size, file.size_bytes - start), check),  # type: ignore[arg-type] # as above
            )
            return {"PartNumber": number, "ETag": part["ETag"]}

        parts = [
            self._call(partial(send_part, number, start), check)
            for number, start in enumerate(range(0, file.size_bytes, size), 1)
        ]
        self._call(
            lambda: client.complete_multipart_upload(
                Bucket=name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            ),
            check,
        )
        unfinished.pop_all()

    def summary(self, check: Check) -> bytes | None:
        """The `result.json` that is already there.

        Raises:
            ResultError: UPLOAD_DENIED if there is no such bucket or the keys are wrong, UPLOAD_FAILED if
                the store does not answer: better now than after an hour of work.
        """
        key = self.key("result.json", "")

        def read() -> bytes | None:
            try:
                answer = self._client.get_object(Bucket=self._name, Key=key)
            except ClientError as error:
                # Without the right to list, S3 says AccessDenied for what does not exist.
                if _code(error) in ("NoSuchKey", "404", "AccessDenied", "403"):
                    return None
                raise
            with contextlib.closing(answer["Body"]) as body:
                return body.read(MAX_SUMMARY_BYTES + 1)

        content = self._call(read, limited(check, self._limits.upload_seconds))
        return None if content is None or len(content) > MAX_SUMMARY_BYTES else content

    def holds(self, artifact: Artifact, check: Check) -> bool:
        """Whether an object with these bytes is there: it is read, whatever checksum the store may keep."""
        check = limited(check, self._limits.upload_seconds)

        def read() -> bool:
            try:
                answer = self._client.get_object(Bucket=self._name, Key=artifact.key or "")
                with contextlib.closing(answer["Body"]) as body:
                    if answer.get("ContentLength", artifact.bytes) != artifact.bytes:
                        return False
                    digest = hashlib.sha256()
                    for chunk in body.iter_chunks(READ_BYTES):
                        check()
                        digest.update(chunk)
            except ClientError as error:
                # Without the right to list, S3 says AccessDenied for what does not exist.
                if _status(error) in (403, 404):
                    return False
                raise
            except FlexibleChecksumError:  # the store's own checksum says so already
                return False
            return digest.hexdigest() == artifact.sha256

        if artifact.key != self.key(artifact.kind, artifact.sha256):
            return False
        return self._call(read, check)

    def end_uploads(self, check: Check) -> None:
        """Abort every multipart upload of this job: call it when the job's files are there.

        A worker that still does the same job begins its upload again, or finds that the job is done.
        """
        check = limited(check, TIDY_SECONDS)
        with contextlib.suppress(ResultError):  # not every key may list them, not every store can
            found = self._call(
                lambda: self._client.list_multipart_uploads(Bucket=self._name, Prefix=self._prefix),
                check,
                attempts=1,
            )
            for upload in found.get("Uploads", []):
                if upload["Key"].startswith(self._prefix):
                    self._abort(upload["Key"], upload["UploadId"], check)

    def _abort(self, key: str, upload_id: str, check: Check) -> None:
        with contextlib.suppress(ResultError):
            self._call(
                lambda: self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id),
                check,
                attempts=1,
            )

    def _is_there(self, artifact: Artifact, check: Check) -> bool:
        try:
            return self.holds(artifact, check)
        except ResultError:
            return False  # the store does not answer: nobody knows

    def _arrived(self, key: str, num_bytes: int, check: Check) -> bool:
        """Whether an object of that length is there; what was accepted is believed where nobody may look."""

        def look() -> bool:
            try:
                answer = self._client.head_object(Bucket=self._name, Key=key)
            except ClientError as error:
                if _status(error) == 404:
                    return False
                raise
            return answer.get("ContentLength", num_bytes) == num_bytes

        try:
            return self._call(look, check)
        except ResultError:
            return True

    def _call(self, call: Callable[[], Result], check: Check, *, attempts: int | None = None) -> Result:
        """One request and its answer, with boto3's errors as ours; `BUCKET_ATTEMPTS` times if need be."""
        return attempt(lambda: _coded(call), attempts=attempts or self._limits.attempts, check=check)


def _nothing() -> None:
    """The check of what is done for a job that ends anyway."""


def _client(settings: BucketSettings) -> "S3Client":
    key, secret = settings.access_key_id, settings.secret_access_key
    client = partial(
        boto3.client,
        "s3",
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
    )
    # Without an address of ours, boto3 looks in its own settings (AWS_ENDPOINT_URL_S3 and others).
    address = settings.endpoint_url or client(region_name=settings.region).meta.endpoint_url
    custom = not f".{urlsplit(address).hostname}".endswith(AWS_DOMAINS)
    # Many S3-compatible stores refuse the checksums that boto3 adds by default since 1.36.
    checksums: Literal["when_required", "when_supported"] = "when_required" if custom else "when_supported"
    style = settings.addressing_style or ("path" if custom else "auto")
    made: S3Client = client(
        endpoint_url=settings.endpoint_url,
        region_name=settings.region or (DEFAULT_REGION if settings.endpoint_url and custom else None),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            connect_timeout=settings.connect_seconds,
            read_timeout=settings.read_seconds,
            retries={"mode": "standard", "total_max_attempts": 1},  # ours look for a cancel in between
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        ),
    )
    return made


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _coded(call: Callable[[], Result]) -> Result:
    """What `call` gives, with boto3's errors as ours. Their own messages name hosts, buckets and key ids."""
    try:
        return call()
    except (ClientError, BotoCoreError) as error:
        raise translated(error) from error
    except (ResponseParserError, KeyError) as error:  # some other server's page, or an empty one
        raise ResultError("UPLOAD_FAILED", "the bucket does not answer as S3 does", stage="upload") from error


def translated(error: ClientError | BotoCoreError) -> JobError:
    """The coded error for one of boto3's."""
    if isinstance(error, ClientError):
        status, code = _status(error), _code(error)
        if code == "NoSuchUpload":
            return _UploadGone(
                "UPLOAD_FAILED", "the bucket does not know the upload any more", stage="upload"
            )
        shown = code if re.fullmatch(r"[A-Za-z0-9]{1,64}", code) else f"HTTP {status}"
        if status >= 500 or status in (408, 429) or code in BUSY:
            return ResultError("UPLOAD_FAILED", f"the bucket is not available ({shown})", stage="upload")
        return ResultError("UPLOAD_DENIED", f"the bucket refused the upload ({shown})", stage="upload")
    if isinstance(error, ParamValidationError):
        return ResultError("OUTPUT_NOT_ALLOWED", "the bucket's name is not valid", stage="upload")
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return ResultError("UPLOAD_DENIED", "the worker has no credentials for the bucket", stage="upload")
    if isinstance(error, SSLError):
        return ResultError("UPLOAD_FAILED", "the bucket's certificate is not valid", stage="upload")
    name = type(error).__name__
    return ResultError("UPLOAD_FAILED", f"the bucket cannot be reached ({name})", stage="upload")
