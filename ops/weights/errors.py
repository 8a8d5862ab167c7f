"""What a source of weight files answers: a stream of bytes from some place on, or why not.

Knows nothing of protocols, retries or which file it is.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass


class SourceFailed(Exception):
    """This source does not give the file; another may. The message may be shown: it holds no secret."""


class TryAgain(SourceFailed):
    """This attempt failed, the next may not."""


class Changed(TryAgain):
    """The source has another version than the part that is here: start over."""


class Complete(Exception):
    """The part that is here was everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of an answer and its body.

    Attributes:
        start: place of the first byte of `chunks` in the file.
        total: length of the file, bytes, if the source says so.
        version: name of this version of the file, by which a later attempt asks for the rest of it.
        revision: commit that a hub names, 40 hex digits.
        chunks: the bytes.
    """

    start: int
    total: int | None
    version: str | None
    revision: str | None = None
    chunks: Iterator[bytes]


# (place, version of what is here) -> the rest of the file
Ask = Callable[[int, str | None], AbstractContextManager[Answer]]
