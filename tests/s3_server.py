"""A real S3 server on loopback for tests: rclone's, which enforces signatures and expiry. Knows no job.

with s3_server(tmp_path) as s3:
s3.client().put_object(Bucket=s3.bucket, Key="clip.mp4", Body=data)
url = s3.presign("get_object", "clip.mp4")
"""

import re
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import boto3
from botocore.config import Config

START_SECONDS = 20.0
ADDRESS = re.compile(r"Starting s3 server on \[(http://127\.0\.0\.1:\d+)/\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """Where the server listens and how to sign for it.

    Attributes:
        endpoint_url: `http://127.0.0.1:PORT`.
        folder: holds one folder per bucket, with the objects as plain files.
        process: rclone itself, for tests that kill it.
    """

    endpoint_url: str
    access_key_id: str
    secret_access_key: str
    bucket: str
    folder: Path
    process: subprocess.Popen[str]

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

    def environment(self, *, through: str | None = None) -> dict[str, str]:
        """The worker's `BUCKET_*` variables for this server, or for a proxy in front of it."""
        return {
            "BUCKET_ENDPOINT_URL": through or self.endpoint_url,
            "BUCKET_ACCESS_KEY_ID": self.access_key_id,
            "BUCKET_SECRET_ACCESS_KEY": self.secret_access_key,
            "BUCKET_NAME": self.bucket,
        }

    def behind(self, endpoint_url: str) -> "S3Server":
        """The same server, reached through another address (a proxy)."""
        return replace(self, endpoint_url=endpoint_url)


@contextmanager
def s3_server(folder: Path, *, bucket: str = "results") -> Iterator[S3Server]:
    """Start the server on a free loopback port with one bucket; stop it at the end."""
    root = folder / "s3"
    (root / bucket).mkdir(parents=True, exist_ok=True)
    access, secret = "test-access-key", "test-secret-key"
    rclone = Path(sysconfig.get_path("scripts")) / "rclone"
    arguments = ["serve", "s3", "--addr", "127.0.0.1:0", "--config", "", "--auth-key", f"{access},{secret}"]
    process = subprocess.Popen([rclone, *arguments, root], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        endpoint_url = _address(process.stderr)
        # rclone goes on logging: an unread pipe would fill up and stop it.
        threading.Thread(target=_drain, args=(process.stderr,), daemon=True).start()
        yield S3Server(
            endpoint_url=endpoint_url,
            access_key_id=access,
            secret_access_key=secret,
            bucket=bucket,
            folder=root,
            process=process,
        )
    finally:
        process.kill()
        process.wait(10)


def _address(log: IO[str]) -> str:
    deadline = time.monotonic() + START_SECONDS
    seen = []
    for line in log:
        seen.append(line)
        if found := ADDRESS.search(line):
            return found.group(1)
        if time.monotonic() > deadline:
            break
    raise RuntimeError(f"rclone did not start: {''.join(seen)}")


def _drain(log: IO[str]) -> None:
    with log:
        for _ in log:
            pass
