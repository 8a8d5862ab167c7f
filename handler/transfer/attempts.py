"""Calls to a store that end when the job ends, and are made again when that can help."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import IO, TypeVar

from handler.context import Check
from handler.errors import JobError
from handler.transfer.connections import POLL_SECONDS, backoff_seconds, wait
from handler.transfer.errors import TransferError

Result = TypeVar("Result")

READ_BYTES = 64 * 1024  # `check` is asked at least that often


def attempt(call: Callable[[], Result], *, attempts: int, check: Check) -> Result:
    """What `call` gives; made again, up to `attempts` times, after a TransferError that may pass.

    Args:
        call: one request and its answer; it bounds its own waits.
        attempts: at most so many calls.
        check: asked before and during each call and in between; what it raises comes out at once.

    Raises:
        TransferError: of the last call.
    """
    number = 1
    while True:
        try:
            return interruptible(call, check)
        except TransferError as error:
            if not error.may_pass or number >= attempts:
                raise
        wait(backoff_seconds(number), check)
        number += 1


def interruptible(call: Callable[[], Result], check: Check) -> Result:
    """What `call` gives. If `check` raises meanwhile, that comes out; the call is left to its own time limit.

    A socket on which nothing comes cannot be woken, so the call waits in a thread of its own.
    """
    check()
    done: Future[Result] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread as it is
            done.set_exception(error)

    threading.Thread(target=work, name="store", daemon=True).start()
    while not wait_for([done], timeout=POLL_SECONDS).done:
        check()
    try:
        return done.result()
    except _Interrupt as interrupt:
        raise interrupt.error from None


class _Interrupt(BaseException):
    """Carries a JobError through a library that would swallow or retry any `Exception`."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.code)
        self.error = error


class Section:
    """A part of a file as a request body that asks `check` before every read; for use in `interruptible`.

    Args:
        file: open for reading; not closed here.
        start: first byte.
        size: number of bytes.
        check: the JobError it raises ends the request.
    """

    def __init__(self, file: IO[bytes], start: int, size: int, check: Check) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._check = check
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, amount: int | None = -1) -> bytes:
        """At most `amount` bytes, and never more than `READ_BYTES`; all that is left by default."""
        try:
            self._check()
        except JobError as error:
            raise _Interrupt(error) from None
        left = self._size - self._position
        amount = left if amount is None or amount < 0 else min(amount, left, READ_BYTES)
        self._file.seek(self._start + self._position)
        data = self._file.read(amount)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte of the section; a retry starts over."""
        origin = {0: 0, 1: self._position, 2: self._size}[whence]
        self._position = min(max(origin + offset, 0), self._size)
        return self._position

    def tell(self) -> int:
        """The next byte to be read."""
        return self._position
