"""Downloads from a real S3 server by presigned URL: signatures, expiry, resume."""

import time

import pytest

from handler.context import unstoppable
from handler.errors import SourceError
from handler.settings import IntakeSettings
from handler.source.download import download
from handler.transfer.addresses import check_url
from handler.transfer.download import Patience
from handler.transfer.download import download as resume
from handler.transfer.http import HttpFile
from handler.transfer.partial import PartialFile
from tests.s3_server import s3_server

DATA = bytes(range(256)) * 4000
LIMITS = IntakeSettings(allow_http=True, allow_private_addresses=True, allowed_ports=(), reserve_disk_bytes=0)
KEY = "folder with space/vidéo+1.mp4"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """A server with one video."""
    with s3_server(tmp_path_factory.mktemp("s3"), bucket="videos") as server:
        server.put(KEY, DATA)
        yield server


def test_download_fetches_a_presigned_url(s3, tmp_path):
    """The URL reaches the server as it was signed, odd characters included."""
    assert download(s3.presign("get_object", KEY), tmp_path, LIMITS).path.read_bytes() == DATA


def test_download_resumes_a_presigned_url(s3, tmp_path):
    """A real server's answer to a resume is understood, and the same version goes on."""
    file = HttpFile(check_url(s3.presign("get_object", KEY), LIMITS), LIMITS, check=unstoppable)
    etag = s3.client().head_object(Bucket="videos", Key=KEY)["ETag"]
    sizes = []
    with PartialFile(tmp_path / "f", reserve_bytes=0) as partial:
        partial.describe(etag, len(DATA))
        partial.write(DATA[:100_000])
        patience = Patience(attempts=1, min_bytes_per_second=0)
        resume(file.open_at, partial, patience, check=unstoppable, report=lambda *seen: sizes.append(seen[0]))
    assert sizes[0] > 100_000
    assert (tmp_path / "f").read_bytes() == DATA


def test_download_says_that_a_presigned_url_expired(s3, tmp_path):
    """An expired link, a broken signature and a missing file each get their own word."""
    url = s3.presign("get_object", KEY, expires_seconds=1)
    time.sleep(2.1)
    with pytest.raises(SourceError, match=r"DOWNLOAD_DENIED.*new link"):
        download(url, tmp_path, LIMITS)
    with pytest.raises(SourceError, match="DOWNLOAD_DENIED"):
        download(s3.presign("get_object", KEY)[:-4] + "0000", tmp_path, LIMITS)
    with pytest.raises(SourceError, match="DOWNLOAD_NOT_FOUND"):
        download(s3.presign("get_object", "missing.mp4"), tmp_path, LIMITS)
    assert list(tmp_path.iterdir()) == []
