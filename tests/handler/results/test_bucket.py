"""What a bucket is asked for: keys, requests on the wire, and on moto, which shows pending uploads."""

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from pydantic import SecretStr

from handler.context import unstoppable
from handler.errors import ErrorCode, InputError, WorkerError
from handler.results.bucket import Bucket, key_prefix, safe_job_id
from handler.settings import BucketSettings
from handler.transfer.s3 import s3_client
from tests.fault_proxy import AnswerTo
from tests.handler.results.places import MEBIBYTE, complete, make_file, settings, store_of

ON_AWS = {"access_key_id": SecretStr("a"), "secret_access_key": SecretStr("b"), "region": "us-east-1"}
USUAL_ID = "c80ffee4-f315-4e25-a146-0f3d98cf024b-u1"


@pytest.mark.parametrize(
    ("root", "prefix", "expected"),
    [
        ("", "", f"{USUAL_ID}/"),
        ("root/", "a//b/./c/", f"root/a/b/c/{USUAL_ID}/"),
        ("tenant", "übung", f"tenant/übung/{USUAL_ID}/"),
    ],
)
def test_prefix_is_normalised(root, prefix, expected):
    """Empty and dot segments vanish, the job's id comes last, as the platform gave it."""
    assert key_prefix(root, prefix, USUAL_ID) == expected


@pytest.mark.parametrize(
    ("prefix", "rule"),
    [
        *[(prefix, "slash") for prefix in ("/a", "/../a")],
        *[(prefix, r"`\.\.`") for prefix in ("../a", "a/../../b", "a/..")],
        *[(prefix, "control") for prefix in ("a\\b", "a\nb", "a\x00", "a\x7f", "a\x9f", "\ud800")],
        ("x" * 513, "longer than 512 bytes"),
        ("ü" * 257, "longer than 512 bytes"),
    ],
)
def test_unsafe_prefix_is_refused(prefix, rule):
    """Absolute, climbing, control characters, too long: a coded error that names the rule."""
    with pytest.raises(InputError, match=rule) as refused:
        key_prefix("", prefix, "job-1")
    assert refused.value.code == "INPUT_INVALID"


@given(prefix=st.text(max_size=40), job_id=st.text(max_size=300))
def test_key_never_leaves_its_root(prefix, job_id):
    """Any text either is refused or gives a plain path below the root."""
    try:
        key = key_prefix("root", prefix, job_id)
    except InputError:
        return
    segments = key.split("/")
    assert (segments[0], segments[-1]) == ("root", "")
    assert all(segment not in ("", ".", "..") for segment in segments[:-1])
    assert "\\" not in key


@given(first=st.text(max_size=200), second=st.text(max_size=200))
def test_job_ids_never_meet(first, second):
    """Two different ids have two different folders, with harmless names."""
    one, other = safe_job_id(first), safe_job_id(second)

    assert (one == other) == (first == second)
    assert one.strip(".")
    assert "/" not in one


# On the wire


@pytest.mark.parametrize("where", ["BUCKET_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "file"])
def test_custom_endpoint_gets_classic_requests(s3, proxy, tmp_path, monkeypatch, where):
    """It is no AWS, whoever names it: path style, a length, a region, no x-amz-checksum headers."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # boto3 reads its own settings anew
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws.ini"))
    if where == "file":
        (tmp_path / "aws.ini").write_text(f"[default]\nendpoint_url = {proxy.url}\n")
    elif where != "BUCKET_ENDPOINT_URL":
        monkeypatch.setenv(where, proxy.url)
    limits = settings(s3, endpoint_url=proxy.url if where == "BUCKET_ENDPOINT_URL" else None)

    store = Bucket(limits, bucket=s3.bucket, prefix=f"classic-{where}/")
    artifact = store.put(make_file(tmp_path, 1000), unstoppable)

    head = proxy.heads[0].decode().lower()
    assert head.startswith(f"put /{s3.bucket}/{artifact.key} ".lower())
    assert "checksum" not in head
    assert "content-length: 1000" in head
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
    config = s3_client(BucketSettings(**ON_AWS, endpoint_url=endpoint_url)).meta.config

    assert config.request_checksum_calculation == ("when_supported" if aws else "when_required")
    assert config.s3["addressing_style"] == ("auto" if aws else "path")


# Pending uploads


@pytest.fixture
def moto_bucket():
    """A bucket in moto's in-process S3."""
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
        client.create_bucket(Bucket="results")
        yield client


def moto_store() -> Bucket:
    """A store on AWS's own address."""
    limits = BucketSettings(**ON_AWS, part_bytes=5 * MEBIBYTE, attempts=1)
    return Bucket(limits, bucket="results", prefix="p/")


def pending(client) -> list[str]:
    """The keys of the multipart uploads that are under way."""
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket="results").get("Uploads", [])]


def test_cancelled_multipart_upload_is_aborted(moto_bucket, tmp_path):
    """No parts are left that cost money without being seen."""

    def check() -> None:
        if pending(moto_bucket):
            raise WorkerError(ErrorCode.SHUTTING_DOWN, "the worker leaves")

    with pytest.raises(WorkerError):
        moto_store().put(make_file(tmp_path, 12 * MEBIBYTE), check)

    assert pending(moto_bucket) == []


def test_multipart_upload_on_aws_is_whole(moto_bucket, tmp_path):
    """Parts of equal size, in order, with boto3's default checksums."""
    file = make_file(tmp_path, 12 * MEBIBYTE + 17)

    artifact = moto_store().put(file, unstoppable)

    found = moto_bucket.get_object(Bucket="results", Key=artifact.key)
    assert found["Body"].read() == file.path.read_bytes()
    assert found["ETag"].endswith('-3"')


def test_finished_job_ends_the_uploads_that_killed_workers_left(moto_bucket, tmp_path):
    """Under the job's own keys, whichever file they were for; another job's go on."""
    for key in ("p/0123456789abcdef/overlay.mp4", "p/frames.jsonl.gz", "p2/frames.jsonl.gz"):
        begun = moto_bucket.create_multipart_upload(Bucket="results", Key=key)["UploadId"]
        moto_bucket.upload_part(Bucket="results", Key=key, UploadId=begun, PartNumber=1, Body=b"part")

    complete(moto_store(), tmp_path)

    assert pending(moto_bucket) == ["p2/frames.jsonl.gz"]


@pytest.mark.parametrize("status", [None, 403, 501], ids=["silent", "denied", "not implemented"])
def test_store_that_lists_no_uploads_costs_nothing(s3, proxy, tmp_path, monkeypatch, status):
    """Ending old uploads only saves space: no job waits or fails for it."""
    monkeypatch.setattr("handler.results.bucket.TIDY_SECONDS", 0.2)
    store = store_of("bucket", s3.behind(proxy.url), f"no-list-{status}")
    proxy.fault = AnswerTo(request=b"^GET .*uploads", status=status, is_done=False)

    _, reply = complete(store, tmp_path)

    assert s3.keys(f"no-list-{status}/") == sorted(artifact.key for artifact in reply.artifacts)
