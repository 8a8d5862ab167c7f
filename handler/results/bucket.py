"""Results in an S3 bucket with the worker's own credentials, by boto3.

Parts are sent one by one and not by boto3's `upload_file`: that one keeps the upload's id to itself and ends
a failed upload from the thread that sends, which may hang for long after the job was cancelled.
"""

import contextlib
import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from botocore.parsers import ResponseParserError

from handler.context import Check, unstoppable
from handler.errors import ErrorCode, InputError, ResultError
from handler.job import Artifact, ArtifactKind
from handler.results.store import LocalFile, Store, limited, upload_errors_coded
from handler.settings import BucketSettings
from handler.transfer.attempts import Section, attempt
from handler.transfer.errors import Problem, TransferError, s3_errors_translated
from handler.transfer.s3 import CHUNK_BYTES, s3_client

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_PARTS = 10_000  # S3's limit
MAX_SUMMARY_BYTES = 1_000_000
TIDY_SECONDS = 5.0  # nothing waits longer for what only saves space
# Without the right to list, S3 says "access denied" for what does not exist.
ABSENT = (Problem.NOT_FOUND, Problem.ACCESS_DENIED, Problem.CHANGED)

MAX_PREFIX_BYTES = 512
MAX_JOB_ID_LENGTH = 100
HASH_LENGTH = 16
_UNSAFE_IN_JOB_ID = re.compile(r"[^A-Za-z0-9._-]")
_UNSAFE_IN_PREFIX = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")

Result = TypeVar("Result")

log = structlog.get_logger(__name__)


class Bucket(Store):
    """One job's prefix in a bucket; the prefix ends with a slash, see `key_prefix`."""

    bucket: str

    def __init__(self, settings: BucketSettings, *, bucket: str, prefix: str) -> None:
        self.bucket = bucket
        self._prefix = prefix
        self._limits = settings
        self._client = s3_client(settings)

    def key(self, kind: ArtifactKind, sha256: str) -> str:
        """The object's key."""
        return object_key(self._prefix, kind, sha256)

    def put(self, file: LocalFile, check: Check) -> Artifact:
        """Upload a file and ask for its length afterwards; in parts if it is larger than one.

        A failed or cancelled multipart upload is aborted. When the store says that an upload failed, or does
        not answer, the file is looked for before it counts as lost. Memory: one network chunk.
        """
        artifact = file.artifact(self.key(file.kind, file.sha256))
        for again in (True, False):
            # Aborted last: a store that has not answered may still be storing the part. Parts of uploads
            # that are never aborted are stored and paid for, but invisible.
            with upload_errors_coded("the bucket"), contextlib.ExitStack() as unfinished:
                try:
                    self._send(file, check, unfinished)
                    break
                except TransferError as error:
                    if self._is_there(artifact, check):
                        log.info("an upload seemed to fail, but the file is there", kind=file.kind)
                        break
                    if not (again and error.problem is Problem.UPLOAD_UNKNOWN):
                        raise
        return artifact

    def _send(self, file: LocalFile, check: Check, unfinished: contextlib.ExitStack) -> None:
        client, bucket, key = self._client, self.bucket, self.key(file.kind, file.sha256)
        size = max(self._limits.part_bytes, -(-file.size_bytes // MAX_PARTS))
        with file.path.open("rb") as stream:

            def part(start: int) -> Any:  # the stubs ask for a whole IO[bytes]; read, seek and tell do
                return Section(stream, start, min(size, file.size_bytes - start), check)

            def put() -> None:
                client.put_object(Bucket=bucket, Key=key, Body=part(0), ContentType=file.content_type)

            def begin() -> str:
                begun = client.create_multipart_upload(Bucket=bucket, Key=key, ContentType=file.content_type)
                return begun["UploadId"]

            def put_part(id_: str, number: int) -> "CompletedPartTypeDef":
                body = part((number - 1) * size)
                sent = client.upload_part(Bucket=bucket, Key=key, UploadId=id_, PartNumber=number, Body=body)
                return {"PartNumber": number, "ETag": sent["ETag"]}

            def complete(id_: str, parts: "list[CompletedPartTypeDef]") -> None:
                client.complete_multipart_upload(
                    Bucket=bucket, Key=key, UploadId=id_, MultipartUpload={"Parts": parts}
                )

            if file.size_bytes <= size:
                self._call(put, check)
            else:
                id_ = self._call(begin, check)
                unfinished.callback(lambda: self._abort(key, id_, limited(unstoppable, TIDY_SECONDS)))
                numbers = range(1, -(-file.size_bytes // size) + 1)
                parts = [self._call(partial(put_part, id_, number), check) for number in numbers]
                self._call(partial(complete, id_, parts), check)
                unfinished.pop_all()
        if not self._arrived(key, file.size_bytes, check):
            raise TransferError(Problem.UNAVAILABLE, f"has not got the whole of {file.kind}")

    def summary(self, check: Check) -> bytes | None:
        """The `result.json` that is already there; an unusable bucket fails now, not after hours of work."""
        key = self.key("result.json", "")

        def read() -> bytes:
            with contextlib.closing(self._client.get_object(Bucket=self.bucket, Key=key)["Body"]) as body:
                return body.read(MAX_SUMMARY_BYTES + 1)

        with upload_errors_coded("the bucket"):
            content = self._read(read, check)
        return None if content is None or len(content) > MAX_SUMMARY_BYTES else content

    def holds(self, artifact: Artifact, check: Check) -> bool:
        """Whether an object with these bytes is there: it is read, whatever checksum the store may keep."""
        key = self.key(artifact.kind, artifact.sha256)

        def is_equal() -> bool:
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            digest = hashlib.sha256()
            with contextlib.closing(answer["Body"]) as body:
                if answer.get("ContentLength", artifact.bytes) != artifact.bytes:
                    return False
                for chunk in body.iter_chunks(CHUNK_BYTES):
                    check()
                    digest.update(chunk)
            return digest.hexdigest() == artifact.sha256

        with upload_errors_coded("the bucket"):
            return artifact.key == key and bool(self._read(is_equal, check))

    def end_uploads(self, check: Check) -> None:
        """Abort every multipart upload of this job: call it when the job's files are there.

        A worker that still does the same job begins its upload again, or finds that the job is done.
        """
        check = limited(check, TIDY_SECONDS)
        # Not every key may list them, not every store can.
        with contextlib.suppress(TransferError, ResultError):
            found = self._call(
                lambda: self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=self._prefix),
                check,
                attempts=1,
            )
            for upload in found.get("Uploads", []):
                if upload["Key"].startswith(self._prefix):
                    self._abort(upload["Key"], upload["UploadId"], check)

    def _abort(self, key: str, upload_id: str, check: Check) -> None:
        with contextlib.suppress(TransferError, ResultError):
            self._call(
                lambda: self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id),
                check,
                attempts=1,
            )

    def _is_there(self, artifact: Artifact, check: Check) -> bool:
        try:
            return self.holds(artifact, check)
        except ResultError:
            return False  # the store does not answer: treated as not there

    def _arrived(self, key: str, num_bytes: int, check: Check) -> bool:
        """Whether an object of that length is there; True, as the store said, if the keys may not look."""
        try:
            answer = self._call(lambda: self._client.head_object(Bucket=self.bucket, Key=key), check)
        except TransferError as error:
            return error.problem is not Problem.NOT_FOUND
        except ResultError:
            return True
        return answer.get("ContentLength", num_bytes) == num_bytes

    def _read(self, read: Callable[[], Result], check: Check) -> Result | None:
        """What `read` gives, or None if the object is not there, or is not what the store once took."""
        try:
            return self._call(read, limited(check, self._limits.upload_seconds))
        except TransferError as error:
            if error.problem in ABSENT:
                return None
            raise

    def _call(self, call: Callable[[], Result], check: Check, *, attempts: int | None = None) -> Result:
        """What one request gives, with boto3's errors as ours; by default in five attempts."""
        return attempt(partial(_translated, call), attempts=attempts or self._limits.attempts, check=check)


def _translated(call: Callable[[], Result]) -> Result:
    try:
        with s3_errors_translated():
            return call()
    except (ResponseParserError, KeyError) as error:  # some other server's page, or an empty one
        raise TransferError(Problem.UNAVAILABLE, "does not answer as S3 does") from error


def key_prefix(root_prefix: str, prefix: str, job_id: str) -> str:
    """`root/prefix/job/`, under which a job's files lie: the operator's prefix, the caller's, the job.

    Raises:
        InputError: INPUT_INVALID, a prefix starts with a slash or holds `..`, a backslash or a control
            character, or is too long.
    """
    return "/".join([*_segments(root_prefix), *_segments(prefix), safe_job_id(job_id), ""])


def object_key(prefix: str, kind: ArtifactKind, sha256: str) -> str:
    """`prefix/result.json`, or `prefix/{hash}/{file}` for the data it names.

    Two workers may do one job at the same time, and their bytes differ. Neither overwrites what the other's
    summary names, so a summary always matches its files, whoever stores what in which order.
    """
    return f"{prefix}{kind}" if kind == "result.json" else f"{prefix}{sha256[:HASH_LENGTH]}/{kind}"


def safe_job_id(job_id: str) -> str:
    """The id as one path segment; an id that had to be changed ends with a hash, so that no two meet."""
    safe = _UNSAFE_IN_JOB_ID.sub("_", job_id)[:MAX_JOB_ID_LENGTH]
    if safe == job_id and safe.strip("."):
        return safe
    return f"{safe.strip('.')}-{hashlib.sha256(job_id.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _segments(prefix: str) -> list[str]:
    segments = [segment for segment in prefix.split("/") if segment not in ("", ".")]
    rules = {
        "start with a slash": prefix.startswith("/"),
        "hold backslashes or control characters": _UNSAFE_IN_PREFIX.search(prefix),
        f"be longer than {MAX_PREFIX_BYTES} bytes": len(prefix.encode(errors="replace")) > MAX_PREFIX_BYTES,
        "hold `..`": ".." in segments,
    }
    for rule, broken in rules.items():
        if broken:
            raise InputError(ErrorCode.INPUT_INVALID, f"output.prefix must not {rule}", stage="validate")
    return segments
