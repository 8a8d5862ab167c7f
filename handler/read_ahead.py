"""Run a stage ahead of the next in its own thread, by a bounded number of items."""

import contextvars
import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """An iterator whose items are made in a thread of their own.

    Memory: at most `depth` items wait or are in the making. An exception of the source is raised where
    the items are taken. A context manager: leaving it stops the thread after the item in the making,
    closes the source (in that thread) and waits for both.

    Args:
        items: the source; nobody else may touch it afterwards.
        depth: items that may wait.
        name: of the thread.
    """

    def __init__(self, items: Iterator[Item], *, depth: int, name: str) -> None:
        self._items = items
        self._depth = depth
        self._changed = threading.Condition()
        self._waiting: deque[Item] = deque()
        self._ended = False
        self._closed = False
        self._error: BaseException | None = None
        context = contextvars.copy_context()  # log lines of the thread name the job too
        self._thread = threading.Thread(target=context.run, args=(self._make,), name=name, daemon=True)

    def __enter__(self) -> "ReadAhead[Item]":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        self._thread.join()

    def __iter__(self) -> Iterator[Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if self._waiting:
                    item = self._waiting.popleft()
                    self._changed.notify_all()
                elif self._error:
                    raise self._error
                else:
                    return
            yield item
            del item  # not held while waiting for the next one

    def _make(self) -> None:
        try:
            for item in self._items:
                with self._changed:
                    self._waiting.append(item)
                    del item
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: len(self._waiting) < self._depth or self._closed)
                    if self._closed:
                        return
        except BaseException as error:  # noqa: BLE001 - raised again where the items are taken
            self._error = error
        finally:
            try:
                if close := getattr(self._items, "close", None):
                    close()
            finally:
                with self._changed:
                    self._ended = True
                    self._changed.notify_all()
