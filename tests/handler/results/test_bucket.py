"""How boto3 is used, on moto, which shows what rclone does not: pending uploads; and on the wire."""

import boto3
import pytest
from moto import mock_aws
from pydantic import SecretStr

from handler.errors import ErrorCode, WorkerError
from handler.results.bucket import Bucket
from handler.settings import BucketSettings
from tests.fault_proxy import AnswerTo
from tests.handler.results.places import MEBIBYTE, complete, make_file, nothing, settings, store_of


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
            raise WorkerError(ErrorCode.SHUTTING_DOWN, "the worker leaves")

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


@pytest.fixture
def no_session(monkeypatch, tmp_path):
    """boto3 reads its own settings anew, and finds none."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws.ini"))


@pytest.mark.parametrize("where", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "file"])
def test_endpoint_of_botos_own_settings_gets_classic_requests(
    s3, proxy, tmp_path, monkeypatch, no_session, where
):
    """It is no AWS, whoever names it: the same requests as with BUCKET_ENDPOINT_URL."""
    if where == "file":
        (tmp_path / "aws.ini").write_text(f"[default]\nendpoint_url = {proxy.url}\n")
    else:
        monkeypatch.setenv(where, proxy.url)
    store = Bucket(settings(s3, endpoint_url=None), bucket=s3.bucket, prefix=f"botos-{where}/")

    artifact = store.put(make_file(tmp_path, 1000), nothing)

    head = proxy.heads[0].decode().lower()
    assert head.startswith(f"put /{s3.bucket}/{artifact.key} ".lower())
    assert "checksum" not in head
    assert "/us-east-1/s3/" in head


@pytest.mark.parametrize(
    ("endpoint_url", "aws"),
    [
        (None, True),
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://S3.cn-north-1.amazonaws.com.cn/", True),
        ("https://bucket.vpce-1a2b3c4d.s3.us-east-1.vpce.amazonaws.com", True),
        ("https://s3-fips.dualstack.us-gov-west-1.amazonaws.com", True),
        ("https://account.r2.cloudflarestorage.com", False),
        ("https://s3.us-west-004.backblazeb2.com", False),
        ("https://s3api-eu-ro-1.runpod.io/", False),
        ("http://minio:9000", False),
        ("https://amazonaws.com.example.org", False),
        ("https://notamazonaws.com", False),
    ],
)
def test_only_aws_gets_the_new_checksums(endpoint_url, aws):
    """What the address says decides; other stores refuse the headers that boto3 adds by default."""
    config = moto_store(endpoint_url=endpoint_url)._client.meta.config

    assert config.request_checksum_calculation == ("when_supported" if aws else "when_required")
    assert config.s3["addressing_style"] == ("auto" if aws else "path")


def begin_uploads(client, *keys: str) -> None:
    """Leave multipart uploads behind, as a killed worker does."""
    for key in keys:
        upload_id = client.create_multipart_upload(Bucket="results", Key=key)["UploadId"]
        client.upload_part(Bucket="results", Key=key, UploadId=upload_id, PartNumber=1, Body=b"part")


def test_finished_job_ends_the_uploads_that_killed_workers_left(moto_bucket, tmp_path):
    """Under the job's own keys, whichever file they were for; another job's go on."""
    begin_uploads(moto_bucket, "p/0123456789abcdef/overlay.mp4", "p/frames.jsonl.gz", "p2/frames.jsonl.gz")

    complete(moto_store(), tmp_path)

    left = moto_bucket.list_multipart_uploads(Bucket="results")["Uploads"]
    assert [upload["Key"] for upload in left] == ["p2/frames.jsonl.gz"]


@pytest.mark.parametrize("status", [None, 403, 501], ids=["silent", "denied", "not implemented"])
def test_store_that_lists_no_uploads_costs_nothing(s3, proxy, request, tmp_path, monkeypatch, status):
    """Ending old uploads only saves space: no job waits or fails for it."""
    monkeypatch.setattr("handler.results.bucket.TIDY_SECONDS", 0.2)
    prefix = f"no-list-{request.node.callspec.id.replace(' ', '-')}"
    store = store_of("bucket", s3.behind(proxy.url), prefix)
    proxy.fault = AnswerTo(request=b"^GET .*uploads", status=status, is_done=False)

    _, reply = complete(store, tmp_path)

    assert s3.keys(prefix) == sorted(artifact.key for artifact in reply.artifacts)
