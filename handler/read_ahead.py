"""Run a stage ahead of the next in its own thread, by a bounded number of items."""

import contextvars
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def read_ahead(items: Iterator[Item], *, depth: int, name: str) -> Iterator[Iterator[Item]]:
    """The items, made in a thread of that name; only there may the source be touched until the block ends.

    Memory: at most `depth` items wait or are in the making. An exception of the source is raised where
    the items are taken. Leaving the block waits for the item in the making and closes the source.
    """
    context = contextvars.copy_context()  # log lines of the thread name the job too
    with ThreadPoolExecutor(1, thread_name_prefix=name) as thread:

        def make_one() -> Future[list[Item]]:
            return thread.submit(lambda: context.run(list, islice(items, 1)))  # an empty list at the end

        ahead = deque(make_one() for _ in range(depth))

        def take() -> Iterator[Item]:
            while made := ahead.popleft().result():
                ahead.append(make_one())
                yield made.pop()  # not held while waiting for the next one

        try:
            yield take()
        finally:
            for waiting in ahead:
                waiting.cancel()
            if close := getattr(items, "close", None):
                thread.submit(lambda: context.run(close)).result()
