"""A real S3 server on loopback: rclone's, which enforces signatures and expiry."""

import json
import re
import secrets
import shutil
import signal
import subprocess
import sysconfig
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from ops.endpoint.processes import ending_with_parent
from ops.endpoint.secret_files import read_private, torn, write_private

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

START_SECONDS = 20.0
REGION = "us-east-1"  # any region does; presigned URLs name it
_KEY = re.compile(r"[A-Za-z0-9+/=_-]{3,128}")
_ADDRESS = re.compile(r"Starting s3 server on \[(http://[^/\]]+)/?\]")


class StorageUnavailable(RuntimeError):
    """The S3 server could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageKeys:
    """One key pair, which may read and write everything in the store."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


class ObjectStore:
    """An S3 server with one bucket, its objects plain files in `folder/bucket`.

    A context manager: it listens inside the block.

    Args:
        folder: holds the bucket; made if it is not there.
        keys: who may use it.
        bucket: the bucket's name.
        port: on loopback; 0 takes a free one.
        host: the address to listen on.
    """

    def __init__(
        self,
        folder: Path,
        keys: StorageKeys,
        *,
        bucket: str = "results",
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.keys = keys
        self.bucket = bucket
        self.endpoint_url = ""  # known once it listens
        self._address = f"{host}:{port}"
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "ObjectStore":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it listens; call it from the main thread (see `processes`).

        Raises:
            StorageUnavailable: rclone is missing, or ended at once (a port in use); holds its own words.
        """
        (self.folder / self.bucket).mkdir(parents=True, exist_ok=True)
        options = ["--addr", self._address, "--config", "", "--dir-cache-time", "1s"]  # see new files at once
        process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            [_rclone(), "serve", "s3", *options, self.folder],
            # The pair rides in the environment: arguments are visible to every user of the machine.
            env={"RCLONE_AUTH_KEY": f'"{self.keys.access_key_id},{self.keys.secret_access_key}"'},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for the endpoint, which ends this in order
            preexec_fn=ending_with_parent(signal.SIGKILL),
        )
        assert process.stderr is not None
        self._process = process
        watchdog = threading.Timer(START_SECONDS, process.kill)  # ends the read below
        watchdog.start()
        self.endpoint_url, words = _read_address(process.stderr)
        watchdog.cancel()
        if not self.endpoint_url:
            self.stop()
            raise StorageUnavailable(f"the S3 server did not start: {words.strip()[-500:]}")
        # A later start (after a crash) must not change the URLs that were handed out.
        self._address = self.endpoint_url.removeprefix("http://")
        self._reader = threading.Thread(target=_drain, args=(process.stderr,), name="s3-log", daemon=True)
        self._reader.start()

    def stop(self) -> None:
        """End the server; whatever is under way breaks off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            if self._reader is not None:
                self._reader.join()  # the pipe has ended with the server
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = self._reader = None

    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.poll() is None

    def environment(self) -> dict[str, str]:
        """The worker's `BUCKET_*` settings for this store."""
        return {
            "BUCKET_ENDPOINT_URL": self.endpoint_url,
            "BUCKET_ACCESS_KEY_ID": self.keys.access_key_id,
            "BUCKET_SECRET_ACCESS_KEY": self.keys.secret_access_key,
            "BUCKET_NAME": self.bucket,
            "BUCKET_REGION": REGION,
        }

    def client(self) -> "S3Client":
        """A boto3 client with the store's keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.keys.access_key_id,
            aws_secret_access_key=self.keys.secret_access_key,
            region_name=REGION,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"mode": "standard", "total_max_attempts": 2},
            ),
        )

    def presign_get(self, key: str, *, expires_seconds: int = 3600) -> str:
        """A URL that reads one object."""
        return self._presign("get_object", key, expires_seconds)

    def presign_put(self, key: str, *, content_type: str | None = None, expires_seconds: int = 3600) -> str:
        """A URL that writes one object; the writer must send exactly this Content-Type if one is given."""
        more = {} if content_type is None else {"ContentType": content_type}
        return self._presign("put_object", key, expires_seconds, **more)

    def _presign(self, operation: str, key: str, expires_seconds: int, **more: Any) -> str:
        params = {"Bucket": self.bucket, "Key": key, **more}
        return self.client().generate_presigned_url(operation, Params=params, ExpiresIn=expires_seconds)


def load_keys(path: Path) -> StorageKeys:
    """The key pair in a file; a new pair is made and kept (readable by its owner only) if there is none.

    Kept so that presigned URLs and clients outlive a restart.

    Raises:
        SecretUnusable: the file does not hold a whole pair.
        OSError: a new pair cannot be written.
    """
    text = read_private(path)
    if text is None:
        keys = StorageKeys(
            access_key_id=secrets.token_hex(10).upper(), secret_access_key=secrets.token_urlsafe(30)
        )
        write_private(path, json.dumps(asdict(keys)))
        return keys
    try:
        keys = StorageKeys(**json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise torn(path) from error
    # An empty pair would have the server let everyone in; quotes and commas separate pairs in its settings.
    if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in asdict(keys).values()):
        raise torn(path)
    return keys


def _rclone() -> Path:
    beside = Path(sysconfig.get_path("scripts")) / "rclone"  # where the wheel puts its binary
    found = beside if beside.exists() else shutil.which("rclone")
    if found is None:
        raise StorageUnavailable("rclone is not installed; install this package with its `serve` extra")
    return Path(found)


def _read_address(log: Iterable[str]) -> tuple[str, str]:
    """The address from the server's log, or "" with what it said before it ended."""
    words = ""
    for line in log:
        words += line
        if found := _ADDRESS.search(line):
            return found.group(1), words
    return "", words


def _drain(log: Iterable[str]) -> None:
    """Read on for ever: a full pipe would stop the server."""
    for _ in log:
        pass
