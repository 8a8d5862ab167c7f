"""A real S3 server on loopback: rclone's, which enforces signatures and expiry."""

import re
import shutil
import signal
import subprocess
import sysconfig
import threading
from collections import deque
from functools import partial
from pathlib import Path

from handler.process import end_with_parent
from ops.endpoint import CannotServe
from ops.endpoint.keys import StorageKeys

START_SECONDS = 20.0
REGION = "us-east-1"  # any region does; presigned URLs name it
_ADDRESS = re.compile(r"Starting s3 server on \[(http://[^/\]]+)/?\]")


class ObjectStore:
    """An S3 server with one bucket, its objects plain files in `folder/bucket`.

    A context manager: it listens on loopback inside the block; port 0 takes a free one.
    """

    def __init__(self, folder: Path, keys: StorageKeys, *, bucket: str = "results", port: int = 0) -> None:
        self.folder = folder
        self.keys = keys
        self.bucket = bucket
        self.endpoint_url = ""  # known once it listens
        self._address = f"127.0.0.1:{port}"
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "ObjectStore":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it listens; call it from the main thread (see `end_with_parent`).

        Raises:
            CannotServe: rclone is missing, or ended at once (a port in use); holds its own words.
        """
        (self.folder / self.bucket).mkdir(parents=True, exist_ok=True)
        options = ["--addr", self._address, "--config", "", "--dir-cache-time", "1s"]  # see new files at once
        process = subprocess.Popen(  # noqa: S603 - our own arguments, no shell
            [_rclone(), "serve", "s3", *options, self.folder],
            # The pair is in the environment: arguments are visible to every user of the machine.
            env={"RCLONE_AUTH_KEY": f'"{self.keys.access_key_id},{self.keys.secret_access_key}"'},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for the endpoint, which ends this in order
            preexec_fn=partial(end_with_parent, signal.SIGKILL),
        )
        self._process = process
        watchdog = threading.Timer(START_SECONDS, process.kill)  # ends the read below
        watchdog.start()
        said, found = "", None
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if found := _ADDRESS.search(line):
                break
        watchdog.cancel()
        if found is None:
            self.stop()
            if "address already in use" in said:
                raise CannotServe(
                    f"the S3 server cannot listen on {self._address}: another program does, perhaps that of "
                    "another endpoint; stop it, or take another port with --storage-port"
                )
            raise CannotServe(f"the S3 server did not start: {said.strip()[-500:]}")
        self.endpoint_url = found.group(1)
        # A later start (after a crash) must not change the URLs that were handed out.
        self._address = self.endpoint_url.removeprefix("http://")
        # Read on: a full pipe would stop the server.
        self._reader = threading.Thread(target=deque, args=(process.stderr, 0), name="s3-log", daemon=True)
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


def _rclone() -> Path:
    beside = Path(sysconfig.get_path("scripts")) / "rclone"  # where the wheel puts its binary
    found = beside if beside.exists() else shutil.which("rclone")
    if found is None:
        raise CannotServe("rclone is not installed; install this package with its `serve` extra")
    return Path(found)
