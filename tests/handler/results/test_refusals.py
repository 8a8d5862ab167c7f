"""What a store refuses, and what is refused before a store is asked."""

import pytest
from pydantic import SecretStr

from handler.errors import InputError, ResultError
from handler.results.bucket import Bucket
from handler.results.presigned import PresignedUrls
from handler.settings import BucketSettings, IntakeSettings
from tests.fault_proxy import Answer
from tests.handler.results.places import (
    LOCAL,
    assert_no_secret,
    make_file,
    nothing,
    settings,
    store_of,
)


@pytest.mark.parametrize(
    ("bucket", "changes", "code"),
    [
        (None, {"secret_access_key": SecretStr("wrong")}, "UPLOAD_DENIED"),
        ("no-such-bucket", {}, "UPLOAD_DENIED"),
        ("Not A Bucket!", {}, "OUTPUT_NOT_ALLOWED"),
    ],
    ids=["wrong secret", "no such bucket", "impossible name"],
)
def test_bucket_that_cannot_take_results_is_told_before_any_work(s3, bucket, changes, code):
    """The look for an earlier result already says that nothing could be stored."""
    store = Bucket(settings(s3, **changes), bucket=bucket or s3.bucket, prefix="x/")

    with pytest.raises(ResultError) as denied:
        store.summary(nothing)

    assert (denied.value.code, denied.value.code.retryable) == (code, False)
    assert_no_secret(denied.value, s3)


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

    assert (denied.value.code, denied.value.code.retryable) == ("UPLOAD_DENIED", False)
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


def test_upload_url_to_a_private_address_is_refused(tmp_path, hosts):
    """A name that leads into the worker's own network is never connected to."""
    hosts["results.example"] = ["169.254.169.254"]
    store = PresignedUrls(
        {"frames.jsonl.gz": SecretStr("https://results.example/x")},
        intake=IntakeSettings(),
        bucket=BucketSettings(),
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
