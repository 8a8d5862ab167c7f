"""Numpy arrays out of pickles, rebuilt by our own checks. Knows nothing of where pickles come from.

Numpy's own unpickling trusts what it reads down to flags of its C structures, so a damaged or hostile file
could corrupt the process. Here a pickle only describes an array: a plain number type, a shape, bytes.
"""

import math
import pickle
from typing import Any, Literal, SupportsIndex

import numpy as np

_PLAIN_KINDS = frozenset("biufcO")
_ORDERS = frozenset("<>=|")


class PickledDtype:
    """A number type as a pickle describes it; `numpy.dtype` itself is never given the description."""

    def __init__(self, code: object, *_: object) -> None:
        self._code = code
        self._order = "="

    def __setstate__(self, state: Any) -> None:
        """Takes the byte order out of numpy's (version, order, ...) and nothing else."""
        if state[1] not in _ORDERS or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of a type that no weights have")
        self._order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """The real type.

        Raises:
            UnpicklingError: not a plain number (or object) type.
        """
        dtype = np.dtype(self._code) if isinstance(self._code, str) else None
        if dtype is None or dtype.kind not in _PLAIN_KINDS or dtype.fields or dtype.subdtype:
            raise pickle.UnpicklingError(f"an array of the type {self._code!r}, which no weights have")
        return dtype.newbyteorder(self._order)  # type: ignore[arg-type]  # one of _ORDERS


class PickledArray(np.ndarray):
    """An array that checks its description before it takes it on."""

    def __setstate__(self, state: Any) -> None:
        """Takes numpy's (version, shape, type, by column, content).

        Raises:
            UnpicklingError: the parts do not fit each other.
        """
        _, shape, described, by_column, content = state
        dtype, shape = _dtype(described), _shape(shape)
        content = content.encode("latin1") if isinstance(content, str) else content
        size = math.prod(shape)
        plain = isinstance(content, bytes) and len(content) == size * dtype.itemsize and not dtype.hasobject
        objects = isinstance(content, list) and len(content) == size and dtype.hasobject
        if not (plain or objects):
            raise pickle.UnpicklingError("an array whose content does not fill its shape")
        state = (1, shape, dtype, bool(by_column), content)
        super().__setstate__(state)


def reconstruct(_cls: object, _shape: object, _code: object) -> PickledArray:
    """Numpy's `_reconstruct`: an empty array, described afterwards."""
    return np.ndarray.__new__(PickledArray, (0,))


def scalar(described: object, content: str | bytes) -> Any:
    """Numpy's `scalar`: one number."""
    raw = content.encode("latin1") if isinstance(content, str) else content
    dtype = _dtype(described)
    if dtype.hasobject:
        raise pickle.UnpicklingError("a number that is an object")
    return np.frombuffer(raw, dtype, count=1)[0]


def frombuffer(buffer: bytes | bytearray, described: object, shape: object, order: str) -> np.ndarray:
    """Numpy's `_frombuffer`: an array of protocol 5."""
    dtype = _dtype(described)
    if dtype.hasobject or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array whose content is no buffer")
    by_column: Literal["C", "F"] = "F" if order == "F" else "C"
    return np.frombuffer(buffer, dtype).reshape(_shape(shape), order=by_column)


def _dtype(described: object) -> np.dtype[Any]:
    if not isinstance(described, PickledDtype):
        raise pickle.UnpicklingError("an array without a type")
    return described.dtype()


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(isinstance(n, SupportsIndex) and int(n) >= 0 for n in shape):
        raise pickle.UnpicklingError("an array of an impossible shape")
    return tuple(int(n) for n in shape)
