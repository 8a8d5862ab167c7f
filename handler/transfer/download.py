"""Fetches one file from one source: tries again, and continues where an earlier attempt or run stopped."""

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from handler.context import Check
from handler.transfer.attempts import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, pause
from handler.transfer.errors import Problem, TransferError
from handler.transfer.partial import PartialFile

Report = Callable[[int, int | None], None]  # (bytes so far, bytes in all if known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A source's answer: the file from some byte on."""

    start: int  # that byte's place in the file
    total: int | None  # length of the file, if the source says so
    version: str | None  # its name of this version; None if the rest cannot be asked for by it
    chunks: Iterable[bytes]


# (first byte wanted, version of the bytes before it) -> the rest of that version, or the whole of a newer one
OpenAt = Callable[[int, str | None], AbstractContextManager[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When a source is given up."""

    attempts: int  # so many failed ones
    min_bytes_per_second: float  # a slower attempt is ended
    min_rate_seconds: float = math.inf  # over so long a time
    forgives: bool = False  # an attempt that was not slower clears the count of those before it
    first_wait_seconds: float = FIRST_WAIT_SECONDS  # before the second attempt; it doubles with each
    longest_wait_seconds: float = LONGEST_WAIT_SECONDS


def download(
    open_at: OpenAt, partial: PartialFile, patience: Patience, *, check: Check, report: Report | None = None
) -> None:
    """Fetch what is missing of a file.

    `check` is called while waiting for the next attempt; what it raises ends the download. `report` is called
    after every chunk.

    Raises:
        TransferError: of the last attempt, or one that cannot pass.
    """
    num_failures = 0
    before, start = partial.size, time.monotonic()
    while not partial.is_complete:
        try:
            _attempt(open_at, partial, patience, report)
            return
        except TransferError as error:
            num_failures += 1
            enough = patience.min_bytes_per_second * (time.monotonic() - start)
            if patience.forgives and partial.size - before >= max(enough, 1):
                num_failures = 0
            if not error.may_pass or num_failures >= patience.attempts:
                raise
            before, start = partial.size, time.monotonic()
            limits = patience.first_wait_seconds, patience.longest_wait_seconds
            pause(max(num_failures, 1), check, error.wait_seconds, *limits)


def _attempt(open_at: OpenAt, partial: PartialFile, patience: Patience, report: Report | None) -> None:
    """Fetch what is missing; returns when the file is complete.

    A body without announced length ends where the server closes: that one cannot be told from a cut.
    """
    if partial.version is None:
        partial.restart()
    try:
        with open_at(partial.size, partial.version) as answer:
            _find_place(answer, partial)
            _receive(answer.chunks, partial, patience, report)
    except TransferError as error:
        if error.problem is Problem.CHANGED:
            partial.restart()
        raise
    if partial.total is not None and partial.size != partial.total:
        raise TransferError(Problem.UNAVAILABLE, "broke off its answer")


def _find_place(answer: Answer, partial: PartialFile) -> None:
    """Decide where the body goes: behind what is there, or in its place."""
    version = answer.version
    if answer.start:
        # A server that does not heed the version it was asked for is found out here. If nothing follows, the
        # length that was announced before was wrong.
        is_same = answer.version in (None, partial.version)
        is_same &= partial.total in (None, answer.total) or answer.total == answer.start
        if answer.start != partial.size or not is_same:
            raise TransferError(Problem.CHANGED, "changed the file while it was fetched")
        version = partial.version
    elif partial.size:
        partial.restart()
    partial.describe(version, answer.total)


def _receive(
    chunks: Iterable[bytes], partial: PartialFile, patience: Patience, report: Report | None
) -> None:
    window_start, window_size = time.monotonic(), partial.size
    for chunk in chunks:
        partial.write(chunk)
        if report is not None:
            report(partial.size, partial.total)
        elapsed = time.monotonic() - window_start
        if elapsed >= patience.min_rate_seconds:
            if (partial.size - window_size) / elapsed < patience.min_bytes_per_second:
                reason = f"is slower than {patience.min_bytes_per_second:.0f} bytes per second"
                raise TransferError(Problem.UNAVAILABLE, reason)
            window_start, window_size = time.monotonic(), partial.size
