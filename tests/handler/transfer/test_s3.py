"""Files from a real S3 server, with keys and by presigned URL; and boto3's errors as ours."""

import inspect
from contextlib import contextmanager
from dataclasses import replace

import botocore.exceptions
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from handler.context import unstoppable
from handler.settings import BucketSettings
from handler.source.download import download as download_video
from handler.transfer.download import Patience, download
from handler.transfer.errors import Problem, TransferError, s3_errors_translated
from handler.transfer.partial import PartialFile
from handler.transfer.s3 import s3_client, s3_file
from tests.handler.transfer.failures import settings

OLD = bytes(range(256)) * 4000
KEY = "folder with space/vidéo+1.mp4"
LIMITS = settings(read_seconds=30)


@pytest.fixture
def client(s3):
    """A client of the server."""
    access = BucketSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key
    )
    return s3_client(access)


@pytest.mark.parametrize("new", [OLD, OLD[::-1], OLD[:100]], ids=["same", "changed", "shorter"])
def test_cut_download_is_resumed(s3, client, tmp_path, new):
    """After a break the rest alone is asked for; of an object that was replaced meanwhile, all of it."""
    s3.put("f", OLD)
    real = s3_file(client, s3.bucket, "f")
    starts = []

    @contextmanager
    def breaks_once(start, version):
        with real(start, version) as answer:
            starts.append(answer.start)
            yield replace(answer, chunks=cut(answer.chunks)) if len(starts) == 1 else answer

    def cut(chunks):
        yield next(iter(chunks))
        s3.put("f", new)
        raise TransferError(Problem.UNAVAILABLE, "broke off")

    patience = Patience(attempts=3, min_bytes_per_second=0, first_wait_seconds=0)
    with PartialFile(tmp_path / "part", reserve_bytes=0) as partial:
        download(breaks_once, partial, patience, check=unstoppable)

    assert (tmp_path / "part").read_bytes() == new
    assert starts[0] == 0
    assert (starts[-1] > 0) is (new == OLD)


def test_end_that_was_missed_needs_no_byte(s3, client, tmp_path):
    """When everything is there but nobody knows, the store's answer to the rest says so."""
    s3.put("f", OLD)
    with PartialFile(tmp_path / "part", reserve_bytes=0) as partial:
        partial.describe(client.head_object(Bucket=s3.bucket, Key="f")["ETag"], None)
        partial.write(OLD)
        patience = Patience(attempts=1, min_bytes_per_second=0)
        download(s3_file(client, s3.bucket, "f"), partial, patience, check=unstoppable)
        assert partial.is_complete


def test_presigned_url_reaches_the_server_as_it_was_signed(s3, tmp_path):
    """Odd characters included."""
    s3.put(KEY, OLD)
    assert download_video(s3.presign("get_object", KEY), tmp_path, LIMITS).path.read_bytes() == OLD


@pytest.mark.parametrize(
    ("status", "code", "problem"),
    [
        (404, "NoSuchKey", Problem.NOT_FOUND),
        (404, "404", Problem.NOT_FOUND),
        (404, "NoSuchBucket", Problem.REFUSED),
        (404, "NoSuchUpload", Problem.UPLOAD_UNKNOWN),
        (403, "AccessDenied", Problem.ACCESS_DENIED),
        (403, "SignatureDoesNotMatch", Problem.KEYS_REFUSED),
        (412, "PreconditionFailed", Problem.CHANGED),
        (400, "BadDigest", Problem.UNAVAILABLE),
        (503, "", Problem.UNAVAILABLE),
        (429, "<b>secret", Problem.UNAVAILABLE),
        (301, "PermanentRedirect", Problem.REFUSED),
    ],
)
def test_answers_of_a_store_are_told_apart(status, code, problem):
    """What a store refuses for good, and what may pass; words of its own are not repeated."""
    answer = {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(TransferError) as told, s3_errors_translated():
        raise ClientError(answer, "GetObject")
    assert told.value.problem is problem
    assert "secret" not in str(told.value)


def test_every_error_of_botocore_is_translated():
    """Whatever boto3 raises on the way comes out as one of ours; what another attempt cannot help is told."""
    final = {
        "ParamValidationError": Problem.NAME_INVALID,
        "NoCredentialsError": Problem.KEYS_REFUSED,
        "PartialCredentialsError": Problem.KEYS_REFUSED,
        "SSLError": Problem.NOT_TRUSTED,
        "FlexibleChecksumError": Problem.CHANGED,
    }
    for name, kind in inspect.getmembers(botocore.exceptions, inspect.isclass):
        if issubclass(kind, BotoCoreError):
            error = kind.__new__(kind)  # each has arguments of its own
            with pytest.raises(TransferError) as told, s3_errors_translated():
                raise error
            assert name not in final or told.value.problem is final[name]
