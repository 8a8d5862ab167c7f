"""Presigned PUT URLs: what they say of themselves is read before any work, what the store says afterwards."""

import contextlib
from datetime import UTC, datetime, timedelta
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from handler.context import unstoppable
from handler.errors import InputError, JobError, ResultError
from handler.results.presigned import MAX_PUT_BYTES, PresignedUrls
from handler.results.store import LocalFile
from handler.results.upload import upload
from handler.settings import BucketSettings, IntakeSettings
from tests.fault_proxy import Answer
from tests.handler.results.places import LOCAL, MEBIBYTE, assert_no_secret, make_file, settings, store_of

HOST = "https://store.example/frames"
NOW = datetime.now(UTC)
PAST, SOON = NOW - timedelta(hours=2), NOW + timedelta(hours=2)


def put_urls(url: str, *, intake=LOCAL, bucket=None, **more) -> PresignedUrls:
    """A store with this URL for the frames."""
    urls = {"frames.jsonl.gz": SecretStr(url)}
    return PresignedUrls(urls, intake=intake, bucket=bucket or BucketSettings(), **more)


@pytest.mark.parametrize(
    ("signed", "names"),
    [
        ({"ContentMD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}, ["content-md5"]),
        ({"ACL": "private"}, ["x-amz-acl"]),
        ({"ServerSideEncryption": "AES256"}, ["x-amz-server-side-encryption"]),
        ({"ChecksumSHA256": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}, ["x-amz-checksum-sha256"]),
        ({"ContentLength": 5}, ["content-length"]),
        ({"CacheControl": "no-store", "ContentType": "application/gzip"}, ["cache-control"]),
        ({"Metadata": {"a": "b"}, "Tagging": "c=d"}, ["x-amz-meta-a", "x-amz-tagging"]),
        ({"IfNoneMatch": "*"}, ["if-none-match"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_url_that_signs_what_is_not_sent_is_refused_at_once(s3, signed, names):
    """The store would refuse it after all the work; the message names each header."""
    with pytest.raises(InputError) as refused:
        put_urls(s3.presign("put_object", "signed", **signed))

    assert (refused.value.code, refused.value.stage) == ("INPUT_INVALID", "validate")
    assert f"is signed for {', '.join(names)}, which" in str(refused.value)
    assert_no_secret(refused.value, s3)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("X-Goog-SignedHeaders=host%3Bx-goog-acl", "x-goog-acl"),
        ("x-amz-signedheaders=HOST;X-Amz-Acl", "x-amz-acl"),
        ("x-oss-additional-headers=host;x-oss-forbid-overwrite", "x-oss-forbid-overwrite"),
        ("q-header-list=content-md5;host", "content-md5"),
        ("AWSAccessKeyId=a&Signature=b&content-md5=c", "content-md5"),
        ("X-Amz-SignedHeaders=host;se%00cret%20text", "(unreadable)"),
    ],
    ids=["Google", "case", "Alibaba", "Tencent", "older form", "garbage"],
)
def test_other_signatures_are_read_too(query, name):
    """Each store has its own word for the list."""
    with pytest.raises(InputError, match="signed for") as refused:
        put_urls(f"{HOST}?{query}")
    assert f"signed for {name}," in str(refused.value)


@pytest.mark.parametrize(
    "query",
    [
        lambda end: f"X-Amz-Date={end - timedelta(hours=1):%Y%m%dT%H%M%SZ}&X-Amz-Expires=3600",
        lambda end: f"x-goog-date={end - timedelta(hours=1):%Y%m%dT%H%M%SZ}&x-goog-expires=3600",
        lambda end: f"AWSAccessKeyId=a&Signature=b&Expires={end.timestamp():.0f}",
        lambda end: f"sv=2022-11-02&sig=b&se={end:%Y-%m-%dT%H:%M:%SZ}",
        lambda end: f"sv=2022-11-02&sig=b&se={end:%Y-%m-%d}",
    ],
    ids=["version 4", "Google", "version 2", "Azure", "Azure, a day"],
)
def test_expired_url_is_refused_at_once(query):
    """UPLOAD_DENIED, as the store would say after the work; a URL that still holds is taken."""
    with pytest.raises(ResultError, match="expired") as denied:
        put_urls(f"{HOST}?{query(PAST - timedelta(days=1))}")
    assert (denied.value.code, denied.value.stage) == ("UPLOAD_DENIED", "validate")

    put_urls(f"{HOST}?{query(SOON + timedelta(days=1))}")


NAMES = st.sampled_from(["X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "Expires", "se", "sig", "sv"])
VALUES = st.text(max_size=20) | st.integers().map(str) | st.sampled_from(["9" * 5000, "20260101T000000Z"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_any_query_is_taken_or_refused_with_a_code(pairs):
    """Nothing in a URL is more than the caller's mistake."""
    query = "&".join(f"{name}={value}" for name, value in pairs)
    with contextlib.suppress(JobError):  # any other exception would be ours
        put_urls(f"{HOST}?{query}")


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "https://user:word@example.com/x", "ftp://example.com/x"]
)
def test_upload_url_is_checked_like_a_video_url(url):
    """A form that is not allowed is refused when the job arrives."""
    with pytest.raises(InputError) as refused:
        put_urls(url, intake=IntakeSettings())
    assert refused.value.code == "URL_NOT_ALLOWED"
    assert "example" not in str(refused.value)


def test_upload_url_to_a_private_address_is_refused(tmp_path, hosts):
    """A name that leads into the worker's own network is never connected to."""
    hosts["store.example"] = ["169.254.169.254"]
    store = put_urls(HOST, intake=IntakeSettings())

    with pytest.raises(InputError) as refused:
        store.put(make_file(tmp_path, 100), unstoppable)
    assert refused.value.code == "URL_NOT_ALLOWED"


def test_file_that_no_store_takes_in_one_put_is_refused(tmp_path):
    """S3's limit is told without sending a byte."""
    kind, size = "frames.jsonl.gz", MAX_PUT_BYTES + 1
    file = LocalFile(kind=kind, path=tmp_path / kind, size_bytes=size, sha256="0" * 64)

    with pytest.raises(ResultError, match="too large for one PUT") as denied:
        put_urls(HOST).put(file, unstoppable)
    assert denied.value.code == "UPLOAD_DENIED"


# What the store says


@pytest.mark.parametrize(
    "more", [{}, {"ContentType": "application/gzip"}], ids=["host alone", "our Content-Type"]
)
def test_url_that_signs_what_is_sent_is_taken(s3, tmp_path, more):
    """Host and the documented Content-Type may be signed."""
    key = f"signed-{len(more)}/frames.jsonl.gz"

    store = put_urls(s3.presign("put_object", key, **more), bucket=settings(s3))
    store.put(make_file(tmp_path, 9), unstoppable)

    assert len(s3.get(key)) == 9


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
    with pytest.raises(ResultError) as denied:
        put_urls(url(s3), bucket=settings(s3)).put(make_file(tmp_path, 100), unstoppable)

    assert (denied.value.code, denied.value.code.retryable) == ("UPLOAD_DENIED", False)
    assert_no_secret(denied.value, s3)
    assert s3.keys("d/") == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(status=403, early=True, closing=True), "was refused"),
        (Answer(status=403, early=True), "was refused"),
        (Answer(status=307), "redirects"),
    ],
    ids=["early, closes", "early, takes nothing more", "redirect"],
)
def test_refusal_is_one_however_it_comes(s3, proxy, tmp_path, answer, words):
    """Also while the file is still being sent; a redirect is not followed; nothing is sent again."""
    store = store_of("presigned", s3.behind(proxy.url), "refused", read_seconds=0.5)
    proxy.fault = answer

    with pytest.raises(ResultError, match=words) as denied:
        store.put(make_file(tmp_path, 12 * MEBIBYTE), unstoppable)

    assert denied.value.code == "UPLOAD_DENIED"
    assert proxy.num_connections == 1


def test_put_says_its_length(s3, proxy, tmp_path):
    """AWS refuses a chunked body, so the request has a length and no transfer coding."""
    store_of("presigned", s3.behind(proxy.url), "length").put(make_file(tmp_path, 100_000), unstoppable)

    head = proxy.heads[0].decode().lower().split("\r\n")
    assert {"content-length: 100000", "content-type: application/gzip"} <= set(head)
    assert not any(line.startswith("transfer-encoding") for line in head)


def test_azure_gets_the_header_it_needs(s3, proxy, tmp_path):
    """A shared access signature works as it is handed out; other stores do not see the header."""
    file = make_file(tmp_path, 10)
    for query in ("sv=2022-11-02&sig=x", "X-Amz-Signature=x"):
        with pytest.raises(ResultError):  # it is no Azure
            put_urls(f"{proxy.url}/frames?{query}", bucket=settings(s3)).put(file, unstoppable)

    azure, other = (head.decode().lower() for head in proxy.heads)
    assert "x-ms-blob-type: blockblob" in azure
    assert "x-ms-" not in other


@pytest.mark.parametrize(
    "body",
    [
        lambda: [bytes(MEBIBYTE)] * 64,
        lambda: repeat(b"%x\r\n%b\r\n" % (4096, bytes(4096)), 16_000),
        lambda: repeat(b"x"),
    ],
    ids=["huge", "chunks", "endless"],
)
def test_status_of_a_presigned_put_decides(s3, proxy, tmp_path, body):
    """The rest of an answer is not read, however much there is."""
    store = store_of("presigned", s3.behind(proxy.url), "long-answer")
    proxy.fault = Answer(status=200, body=body())

    upload(store, [make_file(tmp_path, 1000)], check=unstoppable, seconds=2)

    assert proxy.num_connections == 1
    assert proxy.num_body_bytes < 24 * MEBIBYTE  # what fits into the sockets' buffers
