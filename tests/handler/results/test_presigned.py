"""What a presigned PUT URL says of itself is read before any work."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from handler.errors import InputError, JobError, ResultError
from handler.results.presigned import PresignedUrls
from handler.settings import BucketSettings, IntakeSettings
from tests.handler.results.places import LOCAL, assert_no_secret, make_file, nothing, settings

HOST = "https://store.example/frames"
NOW = datetime.now(UTC)
PAST, SOON = NOW - timedelta(hours=2), NOW + timedelta(hours=2)


def put_urls(url: str) -> PresignedUrls:
    """A store with this URL for the frames."""
    limits = IntakeSettings(allow_http=True, allow_private_addresses=True, allowed_ports=())
    return PresignedUrls({"frames.jsonl.gz": SecretStr(url)}, intake=limits, bucket=BucketSettings())


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
    with pytest.raises(InputError) as refused:
        put_urls(f"{HOST}?{query}")
    assert f"signed for {name}," in str(refused.value)


@pytest.mark.parametrize(
    "more", [{}, {"ContentType": "application/gzip"}], ids=["host alone", "our Content-Type"]
)
def test_url_that_signs_what_is_sent_is_taken(s3, tmp_path, more):
    """Host and the documented Content-Type may be signed."""
    url = s3.presign("put_object", "signed/frames.jsonl.gz", **more)
    store = PresignedUrls({"frames.jsonl.gz": SecretStr(url)}, intake=LOCAL, bucket=settings(s3))
    store.put(make_file(tmp_path, 100), nothing)


def test_azure_gets_the_header_it_needs(s3, proxy, tmp_path):
    """A shared access signature works as it is handed out; other stores do not see the header."""
    for query in ("sv=2022-11-02&sig=x", "X-Amz-Signature=x"):
        url = SecretStr(f"{proxy.url}/frames?{query}")
        store = PresignedUrls({"frames.jsonl.gz": url}, intake=LOCAL, bucket=settings(s3))
        with pytest.raises(ResultError):  # it is no Azure
            store.put(make_file(tmp_path, 10), nothing)

    azure, other = (head.decode().lower() for head in proxy.heads)
    assert "x-ms-blob-type: blockblob" in azure
    assert "x-ms-" not in other


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
    with pytest.raises(ResultError) as denied:
        put_urls(f"{HOST}?{query(PAST - timedelta(days=1))}")
    assert (denied.value.code, denied.value.stage) == ("UPLOAD_DENIED", "validate")
    assert "expired" in str(denied.value)

    put_urls(f"{HOST}?{query(SOON + timedelta(days=1))}")


NAMES = st.sampled_from(["X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "Expires", "se", "sig", "sv"])
VALUES = st.one_of(
    st.text(max_size=20), st.integers().map(str), st.just("9" * 5000), st.just("20260101T000000Z")
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_any_query_is_taken_or_refused_with_a_code(pairs):
    """Nothing in a URL is more than the caller's mistake."""
    query = "&".join(f"{name}={value}" for name, value in pairs)
    with contextlib.suppress(JobError):  # any other exception would be ours
        put_urls(f"{HOST}?{query}")
