"""Calls to a store that end when the job ends, and are made again when that can help."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from typing import IO, TypeVar

from handler.context import Check
from handler.errors import JobError
from handler.transfer.errors import TransferError

Result = TypeVar("Result")

POLL_SECONDS = 0.1  # how late a cancel or a deadline is noticed while waiting
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 8.0
READ_BYTES = 64 * 1024  # `check` is asked at least that often


def pause(
    number: int,
    check: Check,
    wish_seconds: float = 0.0,
    first: float = FIRST_WAIT_SECONDS,
    longest: float = LONGEST_WAIT_SECONDS,
) -> None:
    """Wait after failed attempt `number`, from 1: twice as long each time; what `check` raises ends it.

    With jitter, so that many workers do not come back at once. What the server asks for counts up to the
    longest wait.
    """
    doubled = first * 2.0 ** (number - 1) * random.uniform(0.5, 1.5)
    end = time.monotonic() + min(max(doubled, wish_seconds), longest)
    while (left := end - time.monotonic()) > 0:
        check()
        time.sleep(min(left, POLL_SECONDS))


def attempt(call: Callable[[], Result], *, attempts: int, check: Check) -> Result:
    """What `call` gives: one request and its answer, tried again after a TransferError that may pass.

    `check` is asked before and during each call and in between. What it raises comes out at once; the call is
    left to its own time limit.

    Raises:
        TransferError: of the last call.
    """
    for number in range(1, attempts):
        try:
            return _interruptible(call, check)
        except TransferError as error:
            if not error.may_pass:
                raise
        pause(number, check)
    return _interruptible(call, check)


def _interruptible(call: Callable[[], Result], check: Check) -> Result:
    """Reading from a silent socket cannot be interrupted, so the call runs in a thread of its own."""
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


@dataclass(eq=False)
class Section:
    """`size` bytes of an open file, from `start` on, as the body of a request in `attempt`.

    `check` is asked before every read; the JobError it raises ends the request.
    """

    file: IO[bytes]
    start: int
    size: int
    check: Check
    position: int = 0

    def __len__(self) -> int:
        return self.size

    def read(self, amount: int | None = -1) -> bytes:
        """At most `amount` bytes, and never more than `READ_BYTES`; all that is left by default."""
        try:
            self.check()
        except JobError as error:
            raise _Interrupt(error) from None
        left = self.size - self.position
        amount = left if amount is None or amount < 0 else min(amount, left, READ_BYTES)
        self.file.seek(self.start + self.position)
        data = self.file.read(amount)
        self.position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a byte of the section; a retry starts over."""
        origin = {0: 0, 1: self.position, 2: self.size}[whence]
        self.position = min(max(origin + offset, 0), self.size)
        return self.position

    def tell(self) -> int:
        """The next byte to be read."""
        return self.position
