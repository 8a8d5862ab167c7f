"""Results in an S3 bucket with the worker's own credentials, by boto3. Knows nothing of what it stores."""

import contextlib
import re
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)

from handler.connections import Check
from handler.errors import JobError, ResultError
from handler.job import Artifact, ArtifactKind
from handler.results.store import Interrupt, LocalFile, Section
from handler.settings import BucketSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_PARTS = 10_000  # S3's limit
MAX_SUMMARY_BYTES = 1_000_000
DEFAULT_REGION = "us-east-1"  # what stores without regions of their own expect in a signature
BUSY = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded"}


class Bucket:
    """One job's prefix in a bucket. Retries are boto3's own (`BUCKET_ATTEMPTS`).

    Args:
        settings: address and credentials.
        bucket: its name.
        prefix: ends with a slash, checked by `keys.key_prefix`.
    """

    def __init__(self, settings: BucketSettings, *, bucket: str, prefix: str) -> None:
        self.bucket: str | None = bucket
        self._name = bucket
        self._prefix = prefix
        self._part_bytes = settings.part_bytes
        self._client = _client(settings)

    def key(self, kind: ArtifactKind) -> str:
        """The object key of a file."""
        return self._prefix + kind

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Upload a file and ask for its length afterwards; in parts if it is larger than one.

        Memory: one network chunk. A failed or cancelled multipart upload is aborted.

        Raises:
            ResultError: UPLOAD_DENIED, UPLOAD_FAILED.
        """
        key = self.key(file.kind)
        with _coded(), file.path.open("rb") as stream:
            check()
            if file.size_bytes <= self._part_bytes:
                body = Section(stream, 0, file.size_bytes, check)
                self._client.put_object(
                    Bucket=self._name,
                    Key=key,
                    Body=body,  # type: ignore[arg-type] # the stubs ask for a whole IO[bytes]; read, seek and tell do
                    ContentType=file.content_type,
                )
            else:
                self._put_in_parts(key, file, stream, check)
        artifact = file.artifact(key)
        if not self.holds(artifact, check):
            raise ResultError("UPLOAD_FAILED", f"{file.kind} did not arrive whole", stage="upload")
        return artifact

    def _put_in_parts(self, key: str, file: LocalFile, stream: IO[bytes], check: Check) -> None:
        client, name = self._client, self._name
        size = max(self._part_bytes, -(-file.size_bytes // MAX_PARTS))
        started = client.create_multipart_upload(Bucket=name, Key=key, ContentType=file.content_type)
        upload_id = started["UploadId"]
        try:
            tags: list[CompletedPartTypeDef] = []
            for number, start in enumerate(range(0, file.size_bytes, size), 1):
                check()
                part = client.upload_part(
                    Bucket=name,
                    Key=key,
                    UploadId=upload_id,
                    PartNumber=number,
                    Body=Section(stream, start, min(size, file.size_bytes - start), check),  # type: ignore[arg-type] # as above
                )
                tags.append({"PartNumber": number, "ETag": part["ETag"]})
            client.complete_multipart_upload(
                Bucket=name, Key=key, UploadId=upload_id, MultipartUpload={"Parts": tags}
            )
        except BaseException:
            # Parts that nobody aborts are stored, and paid for, without being visible.
            with contextlib.suppress(ClientError, BotoCoreError):
                client.abort_multipart_upload(Bucket=name, Key=key, UploadId=upload_id)
            raise

    def summary(self, check: Check) -> bytes | None:
        """The `result.json` that is already there.

        Raises:
            ResultError: UPLOAD_DENIED if there is no such bucket or the keys are wrong, UPLOAD_FAILED if
                the store does not answer: better now than after an hour of work.
        """
        check()
        with _coded():
            try:
                answer = self._client.get_object(Bucket=self._name, Key=self.key("result.json"))
            except ClientError as error:
                # Without the right to list, S3 says AccessDenied for what does not exist.
                if _code(error) in ("NoSuchKey", "404", "AccessDenied", "403"):
                    return None
                raise
            if answer["ContentLength"] > MAX_SUMMARY_BYTES:
                return None
            return answer["Body"].read()

    def holds(self, artifact: Artifact, check: Check) -> bool:
        """Whether an object of that length is there; yes if we may write but not look."""
        check()
        with _coded():
            try:
                answer = self._client.head_object(Bucket=self._name, Key=self.key(artifact.kind))
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if status == 403:
                    return True
                if status == 404:
                    return False
                raise
        return answer["ContentLength"] == artifact.bytes


def _client(settings: BucketSettings) -> "S3Client":
    custom = settings.endpoint_url is not None
    # Many S3-compatible stores refuse the checksums that boto3 adds by default since 1.36.
    checksums: Literal["when_required", "when_supported"] = "when_required" if custom else "when_supported"
    style = settings.addressing_style or ("path" if custom else "auto")
    key, secret = settings.access_key_id, settings.secret_access_key
    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region or (DEFAULT_REGION if custom else None),
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": style},
            connect_timeout=settings.connect_seconds,
            read_timeout=settings.read_seconds,
            retries={"mode": "standard", "total_max_attempts": settings.attempts},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        ),
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def _coded() -> Iterator[None]:
    """Turn boto3's errors into ours. Its messages stay behind: they name hosts, buckets and key ids."""
    try:
        yield
    except Interrupt as interrupt:
        raise interrupt.error from None
    except (ClientError, BotoCoreError) as error:
        raise translated(error) from error


def translated(error: ClientError | BotoCoreError) -> JobError:
    """The coded error for one of boto3's."""
    if isinstance(error, ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = _code(error)
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
