"""Fetches one file from one source, going on where an earlier attempt or process stopped.

Knows nothing of which file it is, or of what to try next.
"""

import time
from collections.abc import Callable

import stamina

from ops.weights.answers import Ask, Changed, Complete, TryAgain
from ops.weights.partial import Partial
from ops.weights.settings import WeightSettings

MAX_WAIT_SECONDS = 30.0
MIN_BYTES_PER_SECOND = 16 * 1024  # a source that brings less, waits included, is given up

Report = Callable[[int, int | None], None]  # (bytes so far, bytes in all if known)


def download(ask: Ask, partial: Partial, settings: WeightSettings, report: Report) -> str | None:
    """Fetch what is missing of a file; returns the hub's commit, where there is one.

    A source is given up after `WEIGHTS_ATTEMPTS` attempts in a row that brought next to nothing, so a host
    that cuts every connection still gets there.

    Raises:
        SourceFailed: this source does not give the file.
        StoreUnavailable: no room.
    """
    revision: str | None = None
    while not partial.complete:
        before, start = partial.size, time.monotonic()
        try:
            for attempt in stamina.retry_context(
                on=TryAgain,
                attempts=settings.attempts,
                timeout=None,
                wait_initial=settings.retry_seconds,
                wait_max=MAX_WAIT_SECONDS,
                wait_jitter=settings.retry_seconds,
            ):
                with attempt:
                    revision = _attempt(ask, partial, report) or revision
        except TryAgain:
            gained = partial.size - before
            if gained <= 0 or gained < MIN_BYTES_PER_SECOND * (time.monotonic() - start):
                raise
            continue
        break
    return revision


def _attempt(ask: Ask, partial: Partial, report: Report) -> str | None:
    try:
        with ask(partial.size, partial.version) as answer:
            if answer.start and answer.version != partial.version:
                raise Changed("the file changed")  # some servers do not heed If-Range or If-Match
            if answer.start != partial.size:
                partial.start_over()
            partial.describe(version=answer.version, total=answer.total)
            for chunk in answer.chunks:
                partial.write(chunk)
                report(partial.size, partial.total)
    except Complete:
        return None
    except Changed:
        partial.start_over()
        raise
    if partial.total is not None and partial.size != partial.total:
        raise TryAgain("broke off")
    return answer.revision
