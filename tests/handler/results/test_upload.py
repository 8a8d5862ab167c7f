"""Results arrive whole or the job says why not, on a real S3 server behind a network that misbehaves."""

import hashlib
import json
import time
from pathlib import Path

import boto3
import pytest
from moto import mock_aws
from pydantic import SecretStr

from handler.errors import InputError, JobError, ResultError, WorkerError
from handler.job import BucketOutput
from handler.results.bucket import Bucket
from handler.results.folder import Folder
from handler.results.presigned import PresignedUrls
from handler.results.store import LocalFile, Store, local_file
from handler.results.upload import commit, find_complete, open_store, upload
from handler.settings import BucketSettings, IntakeSettings
from tests.fault_proxy import Answer, Cut, Slow, Stall, fault_proxy
from tests.handler.results.test_golden import make
from tests.s3_server import S3Server, s3_server

MEBIBYTE = 1024**2
PLACES = ("bucket", "presigned")
LOCAL = IntakeSettings(allow_http=True, allow_private_addresses=True, allowed_ports=())


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """One server for the file."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(s3):
    """A faithful proxy in front of it, until told otherwise."""
    with fault_proxy(s3.endpoint_url) as proxy:
        yield proxy


def nothing() -> None:
    """The check of a job that goes on."""


def settings(s3: S3Server, **more) -> BucketSettings:
    """The worker's settings for the server; impatient."""
    fields = {
        "endpoint_url": s3.endpoint_url,
        "access_key_id": SecretStr(s3.access_key_id),
        "secret_access_key": SecretStr(s3.secret_access_key),
        "name": s3.bucket,
        "part_bytes": 5 * MEBIBYTE,
        "attempts": 2,
        "connect_seconds": 2.0,
        "read_seconds": 2.0,
    }
    return BucketSettings(**fields | more)


def store_of(place: str, s3: S3Server, prefix: str, **more) -> Store:
    """A bucket or presigned URLs, with keys under `prefix`."""
    limits = settings(s3, **more)
    if place == "bucket":
        return Bucket(limits, bucket=s3.bucket, prefix=f"{prefix}/")
    urls = {
        kind: SecretStr(s3.presign("put_object", f"{prefix}/{kind}"))
        for kind in ("result.json", "frames.jsonl.gz", "overlay.mp4")
    }
    return PresignedUrls(urls, intake=LOCAL, bucket=limits)


def make_file(folder: Path, size: int, kind="frames.jsonl.gz") -> LocalFile:
    """A file of pseudo-random bytes."""
    path = folder / kind
    block = hashlib.sha256(str(size).encode()).digest()
    path.write_bytes((block * (size // len(block) + 1))[:size])
    return local_file(kind, path)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [0, 1000, 12 * MEBIBYTE], ids=["empty", "small", "three-parts"])
def test_file_arrives_whole(s3, tmp_path, place, size):
    """The object has the file's bytes and type, and the artifact tells both."""
    file = make_file(tmp_path, size)
    prefix = f"whole-{place}-{size}"

    (artifact,) = upload(store_of(place, s3, prefix), [file], check=nothing, seconds=60)

    assert s3.get(f"{prefix}/frames.jsonl.gz") == file.path.read_bytes()
    head = s3.client().head_object(Bucket=s3.bucket, Key=f"{prefix}/frames.jsonl.gz")
    assert (head["ContentType"], head.get("ContentEncoding")) == ("application/gzip", None)
    assert (artifact.bytes, artifact.sha256) == (size, hashlib.sha256(file.path.read_bytes()).hexdigest())
    assert artifact.key == (f"{prefix}/frames.jsonl.gz" if place == "bucket" else None)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "fault",
    [lambda: Cut(after_bytes=300_000, times=1), lambda: Answer(status=503, times=1)],
    ids=["gone-mid-upload", "503"],
)
def test_passing_fault_is_survived(s3, proxy, tmp_path, place, fault):
    """A broken connection or a busy server once costs another attempt, nothing else."""
    file = make_file(tmp_path, 2 * MEBIBYTE)
    prefix = f"passing-{place}-{fault().__class__.__name__}"
    store = store_of(place, s3.behind(proxy.url), prefix)
    proxy.fault = fault()

    upload(store, [file], check=nothing, seconds=60)

    assert s3.get(f"{prefix}/frames.jsonl.gz") == file.path.read_bytes()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "fault",
    [lambda: Cut(after_bytes=300_000), lambda: Answer(status=500), lambda: Stall(after_bytes=300_000)],
    ids=["gone-mid-upload", "500", "stalled"],
)
def test_lasting_fault_is_coded(s3, proxy, tmp_path, place, fault):
    """A server that stays broken is UPLOAD_FAILED, worth a retry, with nothing half-written behind."""
    file = make_file(tmp_path, 8 * MEBIBYTE)
    prefix = f"lasting-{place}-{fault().__class__.__name__}"
    store = store_of(place, s3.behind(proxy.url), prefix, read_seconds=0.7, connect_seconds=0.7)
    proxy.fault = fault()

    with pytest.raises(ResultError) as failed:
        upload(store, [file], check=nothing, seconds=60)

    assert (failed.value.code, failed.value.retryable, failed.value.stage) == (
        "UPLOAD_FAILED",
        True,
        "upload",
    )
    assert s3.keys(prefix) == []
    assert_no_secret(failed.value, s3)


@pytest.mark.parametrize("place", PLACES)
def test_nobody_listening_is_coded(s3, tmp_path, place):
    """A refused connection is UPLOAD_FAILED."""
    with fault_proxy(s3.endpoint_url) as gone:
        pass
    store = store_of(place, s3.behind(gone.url), f"refused-{place}")

    with pytest.raises(ResultError) as failed:
        upload(store, [make_file(tmp_path, 100)], check=nothing, seconds=30)
    assert failed.value.code == "UPLOAD_FAILED"


@pytest.mark.parametrize("place", PLACES)
def test_crawling_upload_ends_at_its_limit(s3, proxy, tmp_path, place):
    """A server that takes bytes one by one does not hold the worker for ever."""
    store = store_of(place, s3.behind(proxy.url), f"slow-{place}")
    proxy.fault = Slow(bytes_per_second=200_000)
    start = time.monotonic()

    with pytest.raises(ResultError) as failed:
        upload(store, [make_file(tmp_path, 4 * MEBIBYTE)], check=nothing, seconds=0.5)

    assert failed.value.code == "UPLOAD_FAILED"
    assert time.monotonic() - start < 15  # 20 s at that rate


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [2 * MEBIBYTE, 12 * MEBIBYTE], ids=["single", "multipart"])
def test_cancel_ends_an_upload_under_way(s3, tmp_path, place, size):
    """The job's own error comes out, and nothing is stored."""
    prefix = f"cancel-{place}-{size}"
    store = store_of(place, s3, prefix)
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 20:
            raise WorkerError("CANCELLED", "the job was cancelled")

    with pytest.raises(WorkerError) as ended:
        upload(store, [make_file(tmp_path, size)], check=check, seconds=60)

    assert ended.value.code == "CANCELLED"
    assert len(calls) < 25  # not retried
    assert s3.keys(prefix) == []


# Refusals


def assert_no_secret(error: JobError, s3: S3Server) -> None:
    """No key, no signature, no address in what the caller sees."""
    for secret in (s3.secret_access_key, s3.access_key_id, "X-Amz", "127.0.0.1", "Signature="):
        assert secret not in str(error)


def test_wrong_secret_is_denied_before_any_work(s3):
    """The look for an earlier result already says that nothing could be stored."""
    store = Bucket(settings(s3, secret_access_key=SecretStr("wrong")), bucket=s3.bucket, prefix="x/")

    with pytest.raises(ResultError) as denied:
        store.summary(nothing)

    assert (denied.value.code, denied.value.retryable) == ("UPLOAD_DENIED", False)
    assert_no_secret(denied.value, s3)


def test_missing_bucket_is_denied_before_any_work(s3):
    """So does a bucket that is not there."""
    with pytest.raises(ResultError) as denied:
        Bucket(settings(s3), bucket="no-such-bucket", prefix="x/").summary(nothing)
    assert denied.value.code == "UPLOAD_DENIED"


def test_impossible_bucket_name_is_refused(s3):
    """A name that S3 cannot have is the caller's mistake."""
    with pytest.raises(ResultError) as refused:
        Bucket(settings(s3), bucket="Not A Bucket!", prefix="x/").summary(nothing)
    assert refused.value.code == "OUTPUT_NOT_ALLOWED"


@pytest.mark.parametrize(
    "url",
    [
        lambda s3: s3.presign("put_object", "d/frames.jsonl.gz", expires_seconds=-5),
        lambda s3: s3.presign("get_object", "d/frames.jsonl.gz"),
        lambda s3: s3.presign("put_object", "d/frames.jsonl.gz", ContentType="text/plain"),
        lambda s3: s3.presign("put_object", "d/frames.jsonl.gz")[:-4] + "0000",
    ],
    ids=["expired", "for-get", "other-type", "forged"],
)
def test_url_that_does_not_fit_is_denied(s3, tmp_path, url):
    """The store's refusal is UPLOAD_DENIED: a new URL is needed, a retry is not."""
    store = PresignedUrls({"frames.jsonl.gz": SecretStr(url(s3))}, intake=LOCAL, bucket=settings(s3))

    with pytest.raises(ResultError) as denied:
        store.put(make_file(tmp_path, 100), nothing)

    assert (denied.value.code, denied.value.retryable) == ("UPLOAD_DENIED", False)
    assert_no_secret(denied.value, s3)
    assert s3.keys("d/") == []


def test_url_signed_with_our_content_type_is_accepted(s3, tmp_path):
    """A URL may sign the documented Content-Type."""
    url = s3.presign("put_object", "typed/frames.jsonl.gz", ContentType="application/gzip")
    store = PresignedUrls({"frames.jsonl.gz": SecretStr(url)}, intake=LOCAL, bucket=settings(s3))

    store.put(make_file(tmp_path, 100), nothing)

    assert s3.keys("typed/") == ["typed/frames.jsonl.gz"]


def test_put_says_its_length(s3, proxy, tmp_path):
    """AWS refuses a chunked body, so the request has a length and no transfer coding."""
    store = store_of("presigned", s3.behind(proxy.url), "length")

    store.put(make_file(tmp_path, 100_000), nothing)

    head = proxy.heads[0].decode().lower().split("\r\n")
    assert "content-length: 100000" in head
    assert "content-type: application/gzip" in head
    assert not any(line.startswith("transfer-encoding") for line in head)


@pytest.mark.parametrize(
    ("url", "intake"),
    [
        ("http://example.com/x", IntakeSettings()),
        ("https://user:password@example.com/x", IntakeSettings()),
        ("ftp://example.com/x", LOCAL),
    ],
    ids=["http", "password", "ftp"],
)
def test_upload_url_is_checked_like_a_video_url(url, intake):
    """A form that is not allowed is refused when the job arrives."""
    with pytest.raises(InputError) as refused:
        PresignedUrls({"result.json": SecretStr(url)}, intake=intake, bucket=BucketSettings())
    assert refused.value.code == "URL_NOT_ALLOWED"
    assert "example" not in str(refused.value)


def test_upload_url_to_a_private_address_is_refused(tmp_path):
    """A name that leads into the worker's own network is never connected to."""
    store = PresignedUrls(
        {"frames.jsonl.gz": SecretStr("https://results.example/x")},
        intake=IntakeSettings(),
        bucket=BucketSettings(),
        resolve=lambda host, port: ["169.254.169.254"],
    )

    with pytest.raises(InputError) as refused:
        store.put(make_file(tmp_path, 100), nothing)
    assert refused.value.code == "URL_NOT_ALLOWED"


def test_redirecting_upload_url_is_denied(s3, proxy, tmp_path):
    """A redirect is not followed."""
    store = store_of("presigned", s3.behind(proxy.url), "redirect")
    proxy.fault = Answer(status=307)

    with pytest.raises(ResultError, match="redirects") as denied:
        store.put(make_file(tmp_path, 100), nothing)
    assert denied.value.code == "UPLOAD_DENIED"


# Where results go


def test_no_bucket_and_no_urls_is_refused():
    """Without a place for the results the job does not start."""
    with pytest.raises(ResultError) as refused:
        open_store(BucketOutput(), "j", bucket=BucketSettings(), intake=IntakeSettings())
    assert (refused.value.code, refused.value.stage) == ("OUTPUT_NOT_ALLOWED", "validate")


def test_bucket_without_keys_is_refused(s3):
    """A bucket's name alone is not enough."""
    with pytest.raises(ResultError) as refused:
        open_store(BucketOutput(bucket="some"), "j", bucket=BucketSettings(), intake=IntakeSettings())
    assert refused.value.code == "OUTPUT_NOT_ALLOWED"


def test_keys_lie_under_root_prefix_and_job(s3):
    """`{root}/{prefix}/{job}/{file}`."""
    limits = settings(s3, root_prefix="tenant-1")

    store = open_store(BucketOutput(prefix="a/"), "job/9", bucket=limits, intake=LOCAL)

    key = store.key("result.json")
    assert key is not None
    assert key.startswith("tenant-1/a/job_9-")
    assert key.endswith("/result.json")


def test_folder_is_a_store(tmp_path):
    """The command line's results are plain files, complete or absent."""
    file = make_file(tmp_path, 1000)
    store = open_store(
        BucketOutput(), "j", bucket=BucketSettings(), intake=LOCAL, folder=tmp_path / "out" / "clip"
    )

    (artifact,) = upload(store, [file], check=nothing, seconds=5)

    assert [path.name for path in (tmp_path / "out" / "clip").iterdir()] == ["frames.jsonl.gz"]
    assert (tmp_path / "out" / "clip" / "frames.jsonl.gz").read_bytes() == file.path.read_bytes()
    assert artifact.key == "frames.jsonl.gz"
    assert isinstance(store, Folder)


# Commit and idempotence


def complete(store: Store, folder: Path):
    """A finished job in the store: (document, reply)."""
    document, _ = make(folder)
    files = [local_file("frames.jsonl.gz", folder / "frames.jsonl.gz")]
    artifacts = upload(store, files, check=nothing, seconds=30)
    document = document.model_copy(update={"artifacts": artifacts})
    return document, commit(store, document, into=folder, check=nothing, seconds=30)


def test_reply_points_at_every_file(s3, tmp_path):
    """Reply, summary and bucket tell the same, and the hashes are those of the objects."""
    _, reply = complete(store_of("bucket", s3, "reply"), tmp_path)

    assert [artifact.kind for artifact in reply.artifacts] == ["frames.jsonl.gz", "result.json"]
    for artifact in reply.artifacts:
        content = s3.get(str(artifact.key))
        assert (len(content), hashlib.sha256(content).hexdigest()) == (artifact.bytes, artifact.sha256)
    summary = json.loads(s3.get("reply/result.json"))
    assert [item["kind"] for item in summary["artifacts"]] == ["frames.jsonl.gz"]
    assert (reply.frames, reply.people, reply.bucket) == (6, 2, s3.bucket)
    assert reply.reused is False


@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_finished_job_is_found_again(s3, tmp_path, place):
    """The same id and input give the earlier reply, only marked as reused."""
    store = store_of("bucket", s3, "again") if place == "bucket" else Folder(tmp_path / "out")
    _, reply = complete(store, tmp_path)

    found = find_complete(store, job_id="golden-1", input_sha256="1" * 64, into=tmp_path, check=nothing)

    assert found == reply.model_copy(update={"reused": True})


@pytest.mark.parametrize(
    ("job_id", "input_sha256"), [("golden-1", "f" * 64), ("other", "1" * 64)], ids=["input", "id"]
)
def test_other_input_is_not_found(s3, tmp_path, job_id, input_sha256):
    """Another input under the same id is another job."""
    store = store_of("bucket", s3, f"other-{job_id}")
    complete(store, tmp_path)

    assert (
        find_complete(store, job_id=job_id, input_sha256=input_sha256, into=tmp_path, check=nothing) is None
    )


def test_result_with_a_lost_file_is_not_reused(s3, tmp_path):
    """A summary whose frames are gone, or cut, is no result."""
    store = store_of("bucket", s3, "lost")
    complete(store, tmp_path)
    again = {"job_id": "golden-1", "input_sha256": "1" * 64, "into": tmp_path, "check": nothing}

    s3.put("lost/frames.jsonl.gz", b"cut")
    assert find_complete(store, **again) is None
    s3.client().delete_object(Bucket=s3.bucket, Key="lost/frames.jsonl.gz")
    assert find_complete(store, **again) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"schema": "other/2.0"}', b"[" * 10_000])
def test_foreign_summary_is_ignored(s3, tmp_path, content):
    """Whatever else lies under that key is not taken for a result."""
    s3.put("foreign/result.json", content)
    store = store_of("bucket", s3, "foreign")

    assert find_complete(store, job_id="j", input_sha256="0" * 64, into=tmp_path, check=nothing) is None


def test_presigned_places_cannot_be_asked(s3, tmp_path):
    """URLs that can only be written never claim an earlier result."""
    store = store_of("presigned", s3, "ask")
    complete(store, tmp_path)

    assert (
        find_complete(store, job_id="golden-1", input_sha256="1" * 64, into=tmp_path, check=nothing) is None
    )


def test_failed_upload_leaves_no_summary(s3, proxy, tmp_path):
    """What breaks in the middle never looks complete."""
    store = store_of("bucket", s3.behind(proxy.url), "half")
    files = [make_file(tmp_path, 1000), make_file(tmp_path, 3 * MEBIBYTE, "overlay.mp4")]
    proxy.fault = Cut(after_bytes=MEBIBYTE)

    with pytest.raises(ResultError):
        upload(store, files, check=nothing, seconds=60)

    assert s3.keys("half/") == ["half/frames.jsonl.gz"]


# The protocol, on moto, which shows what rclone does not: pending uploads and request headers


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
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 4:
            pending = moto_bucket.list_multipart_uploads(Bucket="results").get("Uploads", [])
            assert pending
            raise WorkerError("SHUTTING_DOWN", "the worker leaves")

    with pytest.raises(WorkerError):
        moto_store().put(make_file(tmp_path, 12 * MEBIBYTE), check)

    assert moto_bucket.list_multipart_uploads(Bucket="results").get("Uploads", []) == []


def test_multipart_upload_on_aws_is_whole(moto_bucket, tmp_path):
    """Parts of equal size, in order, with boto3's default checksums."""
    file = make_file(tmp_path, 12 * MEBIBYTE + 17)

    moto_store().put(file, nothing)

    found = moto_bucket.get_object(Bucket="results", Key="p/frames.jsonl.gz")
    assert found["Body"].read() == file.path.read_bytes()
    assert found["ETag"].endswith('-3"')


def test_custom_endpoint_gets_no_extra_checksums(s3, proxy, tmp_path):
    """Stores that know only classic S3 see classic requests: path style, no x-amz-checksum headers."""
    store_of("bucket", s3.behind(proxy.url), "classic").put(make_file(tmp_path, 1000), nothing)

    head = proxy.heads[0].decode().lower()
    assert head.startswith(f"put /{s3.bucket}/classic/frames.jsonl.gz")
    assert "checksum" not in head
    assert "content-length: 1000" in head
