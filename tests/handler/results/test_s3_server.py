"""The S3 server that tests lean on really enforces what they rely on."""

import urllib.error
import urllib.request

import pytest

from tests.s3_server import S3Server


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def test_presigned_get_returns_the_bytes(s3: S3Server):
    """What was put is what a presigned URL gives."""
    s3.put("a/clip.bin", b"frames")

    assert _get(s3.presign("get_object", "a/clip.bin")) == b"frames"
    assert s3.keys("a/") == ["a/clip.bin"]


def test_wrong_signature_is_refused(s3: S3Server):
    """A changed signature opens nothing."""
    s3.put("b/clip.bin", b"frames")
    url = s3.presign("get_object", "b/clip.bin")

    with pytest.raises(urllib.error.HTTPError) as refused:
        _get(url[:-6] + "000000")
    assert refused.value.code == 403
    refused.value.close()


def test_expired_url_is_refused(s3: S3Server):
    """An expiry in the past opens nothing (rclone says 400 where AWS says 403)."""
    s3.put("c/clip.bin", b"frames")

    with pytest.raises(urllib.error.HTTPError) as refused:
        _get(s3.presign("get_object", "c/clip.bin", expires_seconds=-5))
    assert refused.value.code in (400, 403)
    refused.value.close()
