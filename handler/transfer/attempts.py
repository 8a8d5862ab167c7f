"""Calls to a store that end when the job ends, and are made again when that can help. Knows no store."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TypeVar

from handler.errors import ResultError
from handler.results.store import Interrupt
from handler.transfer.connections import POLL_SECONDS, Check, backoff_seconds, wait

Result = TypeVar("Result")


def attempt(call: Callable[[], Result], *, attempts: int, check: Check) -> Result:
    """What `call` gives; made again, up to `attempts` times, after a ResultError that is retryable.

    Args:
        call: one request and its answer; it bounds its own waits.
        attempts: at most so many calls.
        check: asked before and during each call and in between; what it raises comes out at once.

    Raises:
        ResultError: of the last call.
    """
    number = 1
    while True:
        try:
            return interruptible(call, check)
        except ResultError as error:
            if not error.retryable or number >= attempts:
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
    except Interrupt as interrupt:
        raise interrupt.error from None


def limited(check: Check, seconds: float) -> Check:
    """The same check, which also raises UPLOAD_FAILED once so much time has passed."""
    deadline = time.monotonic() + seconds

    def check_all() -> None:
        check()
        if time.monotonic() > deadline:
            raise ResultError("UPLOAD_FAILED", f"the upload took longer than {seconds:.0f} s", stage="upload")

    return check_all
