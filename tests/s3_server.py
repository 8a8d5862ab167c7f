"""A real S3 server on loopback for tests: rclone's, which enforces signatures and expiry.

with s3_server(tmp_path) as s3:
    s3.put("clip.mp4", data)
    url = s3.presign("get_object", "clip.mp4")
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from ops.endpoint.keys import StorageKeys
from ops.endpoint.storage import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """Where the server listens and how to sign for it."""

    endpoint_url: str  # `http://127.0.0.1:PORT`
    access_key_id: str
    secret_access_key: str
    bucket: str
    folder: Path  # holds one folder per bucket, with the objects as plain files

    def client(self) -> Any:
        """A boto3 S3 client with the server's keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name="us-east-1",
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"mode": "standard", "total_max_attempts": 2},
            ),
        )

    def presign(self, operation: str, key: str, *, expires_seconds: int = 600, **more: Any) -> str:
        """A presigned URL, e.g. `presign("put_object", key, ContentType="application/json")`."""
        params = {"Bucket": self.bucket, "Key": key, **more}
        url: str = self.client().generate_presigned_url(operation, Params=params, ExpiresIn=expires_seconds)
        return url

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        self.client().put_object(Bucket=self.bucket, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        """An object's bytes."""
        body: bytes = self.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "") -> list[str]:
        """Every key under a prefix, sorted."""
        found = self.client().list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return sorted(item["Key"] for item in found.get("Contents", []))

    def environment(self) -> dict[str, str]:
        """The worker's `BUCKET_*` variables for this server."""
        return {
            "BUCKET_ENDPOINT_URL": self.endpoint_url,
            "BUCKET_ACCESS_KEY_ID": self.access_key_id,
            "BUCKET_SECRET_ACCESS_KEY": self.secret_access_key,
            "BUCKET_NAME": self.bucket,
        }

    def behind(self, endpoint_url: str) -> "S3Server":
        """The same server, reached through another address (a proxy)."""
        return replace(self, endpoint_url=endpoint_url)


def of_store(store: ObjectStore) -> S3Server:
    """A client's view of a store that listens."""
    return S3Server(
        endpoint_url=store.endpoint_url,
        access_key_id=store.keys.access_key_id,
        secret_access_key=store.keys.secret_access_key,
        bucket=store.bucket,
        folder=store.folder,
    )


@contextmanager
def s3_server(folder: Path, *, bucket: str = "results") -> Iterator[S3Server]:
    """Start the server on a free loopback port with one bucket; stop it at the end."""
    keys = StorageKeys(access_key_id="test-access-key", secret_access_key="test-secret-key")
    with ObjectStore(folder / "s3", keys, bucket=bucket) as store:
        yield of_store(store)
