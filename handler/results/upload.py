"""Finished files go out, the summary last: its presence means that everything else is there."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from handler.context import Check
from handler.errors import ErrorCode, ResultError
from handler.job import Artifact, BucketOutput, PresignedOutput, Reply
from handler.results.bucket import Bucket, key_prefix
from handler.results.document import ResultDocument
from handler.results.presigned import PresignedUrls
from handler.results.store import Folder, LocalFile, Store, limited, local_file
from handler.results.summarise import document_bytes, reply_of
from handler.settings import BucketSettings, IntakeSettings
from handler.transfer.errors import disk_full_is_coded

SUMMARY_NAME = "result.json"


def open_store(
    output: BucketOutput | PresignedOutput,
    job_id: str,
    *,
    bucket: BucketSettings,
    intake: IntakeSettings,
    folder: Path | None = None,
) -> Store:
    """Where a job's results go: `folder` if it is given (the command line's `--out`), else the caller's wish.

    Opens no connection.

    Raises:
        InputError: INPUT_INVALID (the prefix), URL_NOT_ALLOWED.
        ResultError: OUTPUT_NOT_ALLOWED, neither this worker nor the job brings a place; UPLOAD_DENIED, a URL
            has expired.
    """
    if folder is not None:
        return Folder(folder)
    if isinstance(output, PresignedOutput):
        return PresignedUrls(output.put_urls.by_kind(), intake=intake, bucket=bucket)
    name = output.bucket or bucket.name
    if name is None or bucket.access_key_id is None or bucket.secret_access_key is None:
        raise ResultError(
            ErrorCode.OUTPUT_NOT_ALLOWED,
            "this worker has no bucket of its own (BUCKET_NAME and keys); send output.put_urls",
            stage="validate",
        )
    return Bucket(bucket, bucket=name, prefix=key_prefix(bucket.root_prefix, output.prefix, job_id))


def upload(store: Store, files: Sequence[LocalFile], *, check: Check, seconds: float) -> tuple[Artifact, ...]:
    """Store everything but the summary, in order, within the given seconds.

    Raises:
        ResultError: UPLOAD_DENIED, UPLOAD_FAILED.
    """
    check = limited(check, seconds)
    return tuple(store.put(file, check) for file in files)


def commit(store: Store, document: ResultDocument, *, into: Path, check: Check, seconds: float) -> Reply:
    """Store the summary and answer; call it once, after the files it names are there.

    If another worker has finished the same job meanwhile, its result stands and is the answer. The local
    folder `into` takes the file; all of it lasts at most the given seconds.

    Raises:
        ResultError: UPLOAD_DENIED, UPLOAD_FAILED.
        WorkerError: DISK_FULL.
    """
    check = limited(check, seconds)
    store.end_uploads(check)
    earlier = find_complete(
        store, job_id=document.job_id, input_sha256=document.input_sha256, into=into, check=check
    )
    if earlier is not None:
        return earlier
    artifact = store.put(_summary_file(document_bytes(document), into, check), check)
    return reply_of(document, bucket=store.bucket, artifacts=(*document.artifacts, artifact))


def find_complete(store: Store, *, job_id: str, input_sha256: str, into: Path, check: Check) -> Reply | None:
    """The answer of an earlier run of the same job and input, if its files are there, byte for byte.

    The local folder `into` takes a copy of its summary.

    Raises:
        ResultError: UPLOAD_DENIED, UPLOAD_FAILED: the store would not take the results either.
        WorkerError: DISK_FULL.
    """
    content = store.summary(check)
    if content is None:
        return None
    try:
        document = ResultDocument.model_validate_json(content)
    except ValidationError:
        return None  # of another version, or not ours
    if (document.job_id, document.input_sha256) != (job_id, input_sha256):
        return None
    if not all(store.holds(artifact, check) for artifact in document.artifacts):
        return None
    summary = _summary_file(content, into, check)
    artifacts = (*document.artifacts, summary.artifact(store.key("result.json", summary.sha256)))
    return reply_of(document, bucket=store.bucket, artifacts=artifacts, reused=True)


def _summary_file(content: bytes, into: Path, check: Check) -> LocalFile:
    path = into / SUMMARY_NAME
    with disk_full_is_coded("upload"):
        path.write_bytes(content)
    return local_file("result.json", path, check)
