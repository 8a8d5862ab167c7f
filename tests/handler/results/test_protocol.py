"""How boto3 is used, on moto, which shows what rclone does not: pending uploads; and on the wire."""

import boto3
import pytest
from moto import mock_aws
from pydantic import SecretStr

from handler.errors import WorkerError
from handler.results.bucket import Bucket
from handler.settings import BucketSettings
from tests.handler.results.places import (
    MEBIBYTE,
    make_file,
    nothing,
    store_of,
)


@pytest.fixture
def moto_bucket():
    """A bucket in moto's in-process S3."""
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        client.create_bucket(Bucket="results")
        yield client


def moto_store(**more) -> Bucket:
    """A store on AWS's own address."""
    fields = {"access_key_id": SecretStr("a"), "secret_access_key": SecretStr("b"), "region": "us-east-1"}
    return Bucket(
        BucketSettings(**fields, part_bytes=5 * MEBIBYTE, attempts=1, **more), bucket="results", prefix="p/"
    )


def test_cancelled_multipart_upload_is_aborted(moto_bucket, tmp_path):
    """No parts are left that cost money without being seen."""

    def check() -> None:
        if moto_bucket.list_multipart_uploads(Bucket="results").get("Uploads", []):
            raise WorkerError("SHUTTING_DOWN", "the worker leaves")

    with pytest.raises(WorkerError):
        moto_store().put(make_file(tmp_path, 12 * MEBIBYTE), check)

    assert moto_bucket.list_multipart_uploads(Bucket="results").get("Uploads", []) == []


def test_multipart_upload_on_aws_is_whole(moto_bucket, tmp_path):
    """Parts of equal size, in order, with boto3's default checksums."""
    file = make_file(tmp_path, 12 * MEBIBYTE + 17)

    artifact = moto_store().put(file, nothing)

    found = moto_bucket.get_object(Bucket="results", Key=artifact.key)
    assert found["Body"].read() == file.path.read_bytes()
    assert found["ETag"].endswith('-3"')


def test_custom_endpoint_gets_no_extra_checksums(s3, proxy, tmp_path):
    """Stores that know only classic S3 see classic requests: path style, no x-amz-checksum headers."""
    artifact = store_of("bucket", s3.behind(proxy.url), "classic").put(make_file(tmp_path, 1000), nothing)

    head = proxy.heads[0].decode().lower()
    assert head.startswith(f"put /{s3.bucket}/{artifact.key}")
    assert "checksum" not in head
    assert "content-length: 1000" in head
