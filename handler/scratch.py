"""The folder of a job's temporary files: private, always removed, swept after a crash.

Each worker process owns one folder under the scratch folder and holds a lock on it while it lives. So several
workers can share a machine, and the next worker finds and removes the files of a killed one.
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK_NAME = "in-use"


class Scratch:
    """This process's folder under the scratch folder, made if need be; the folders of dead workers go.

    Attributes:
        folder: where the jobs' folders are.
        swept: how many dead workers had left files.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("wb") as only_one:
            fcntl.flock(only_one, fcntl.LOCK_EX)
            self.swept = _sweep(root)
            self.folder = Path(tempfile.mkdtemp(prefix="worker-", dir=root))  # 0700
            self._lock: IO[bytes] = (self.folder / LOCK_NAME).open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    @contextmanager
    def job(self) -> Iterator[Path]:
        """A new folder (0700) for one job, removed with everything in it on the way out."""
        for leftover in self.folder.iterdir():
            if leftover.name != LOCK_NAME:
                shutil.rmtree(leftover, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="job-", dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove this process's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _sweep(root: Path) -> int:
    """Remove the folders of dead workers; returns how many there were."""
    num_swept = 0
    for folder in root.glob("worker-*"):
        try:
            with (folder / LOCK_NAME).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its worker is alive
        except OSError:
            pass  # no lock file: its worker died before it made one
        shutil.rmtree(folder, ignore_errors=True)
        num_swept += 1
    return num_swept
