"""Places for results in tests: a real bucket, presigned URLs, files to put there."""

import hashlib
from pathlib import Path

from pydantic import SecretStr

from handler.context import unstoppable
from handler.errors import JobError
from handler.results.bucket import Bucket
from handler.results.presigned import PresignedUrls
from handler.results.store import LocalFile, Store, local_file
from handler.results.upload import commit, upload
from handler.settings import BucketSettings, IntakeSettings
from tests.handler.results.test_golden import make
from tests.s3_server import S3Server

MEBIBYTE = 1024**2
PLACES = ("bucket", "presigned")
LOCAL = IntakeSettings(allow_http=True, allow_private_addresses=True, allowed_ports=())


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


def stored(s3: S3Server, prefix: str, kind: str = "frames.jsonl.gz") -> bytes:
    """The one object of that name under a prefix, whatever hash its key holds."""
    (key,) = (key for key in s3.keys(f"{prefix}/") if key.endswith(f"/{kind}"))
    return s3.get(key)


def make_file(folder: Path, size: int, kind="frames.jsonl.gz") -> LocalFile:
    """A file of pseudo-random bytes."""
    path = folder / kind
    block = hashlib.sha256(str(size).encode()).digest()
    path.write_bytes((block * (size // len(block) + 1))[:size])
    return local_file(kind, path)


def complete(store: Store, folder: Path, *, frames: bytes | None = None, document=None):
    """A finished job in the store, if need be with other bytes for its frames: (document, reply)."""
    document = document or make(folder)[0]
    path = folder / "frames.jsonl.gz"
    if frames is not None:
        path.write_bytes(frames)
    artifacts = upload(store, [local_file("frames.jsonl.gz", path)], check=unstoppable, seconds=30)
    document = document.model_copy(update={"artifacts": artifacts})
    return document, commit(store, document, into=folder, check=unstoppable, seconds=30)


def assert_no_secret(error: JobError, s3: S3Server) -> None:
    """No key, no signature, no address in what the caller sees."""
    for secret in (s3.secret_access_key, s3.access_key_id, "X-Amz", "127.0.0.1", "Signature="):
        assert secret not in str(error)
