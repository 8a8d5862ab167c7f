"""One process at a time writes a store. Knows nothing of what is written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from model_cache.errors import StoreUnavailable

WRITER_FILE = ".writer.lock"


@contextmanager
def single_writer(store: Path, wait_seconds: float, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the store for writing; readers are never held up, since files appear whole.

    The system frees it when a process dies.

    Raises:
        StoreUnavailable: another process kept it longer, or the folder cannot be written.
    """
    try:
        store.mkdir(parents=True, exist_ok=True)
        lock = FileLock(store / WRITER_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say("Another process is writing this store; waiting for it.")
            lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise StoreUnavailable(
            f"another process has been writing the store for {wait_seconds:.0f} s (WEIGHTS_WAIT_SECONDS)"
        ) from error
    except OSError as error:
        raise StoreUnavailable(f"the weights store {store} cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
