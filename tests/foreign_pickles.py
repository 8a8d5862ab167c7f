"""Pickles that name classes which do not exist where they are read, and pickles as Python 2 wrote them."""

import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np


@contextmanager
def foreign_modules(*names: str) -> Iterator[None]:
    """Modules that exist inside the block only, as on the machine where an official file was written."""
    parts = {".".join(name.split(".")[:end]) for name in names for end in range(1, name.count(".") + 2)}
    hidden = {name: sys.modules.get(name) for name in parts}
    sys.modules |= {name: ModuleType(name) for name in parts}
    try:
        yield
    finally:
        for name, module in hidden.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def foreign_object(module: str, name: str, items: dict[str, Any] | None = None, **state: Any) -> Any:
    """An instance of `module.name`; with `items` of a subclass of dict, as yacs' CfgNode is."""
    cls = getattr(sys.modules[module], name, None)
    if cls is None:  # the pickler finds it there
        cls = type(name, (object if items is None else dict,), {"__module__": module})
        setattr(sys.modules[module], name, cls)
    instance = cls() if items is None else cls(items)
    instance.__dict__.update(state)
    return instance


def chumpy_array(array: np.ndarray) -> Any:
    """An array as SMPL's pickles have it."""
    return foreign_object("chumpy.ch", "Ch", x=array, _dirty_vars=set(), _itr=None)


def scipy_csc(dense: np.ndarray) -> Any:
    """A sparse matrix by columns as an old scipy pickled it."""
    column, row = np.nonzero(dense.T)
    counts = np.bincount(column, minlength=dense.shape[1])
    return foreign_object(
        "scipy.sparse.csc",
        "csc_matrix",
        _shape=dense.shape,
        data=dense[row, column],
        indices=row.astype(np.int32),
        indptr=np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
        maxprint=50,
        format="csc",
    )


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]  # the pure-Python one can be changed
    """Writes text and bytes as Python 2's one `str`, and names numpy's modules as they were then."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]  # as above

    def save_string(self, value: str | bytes) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    def save_global(self, value: Any, name: str | None = None) -> None:
        if getattr(value, "__module__", "").startswith("numpy._core"):
            self.write(pickle.GLOBAL + f"numpy.core.multiarray\n{value.__name__}\n".encode())
            self.memoize(value)
        else:
            super().save_global(value, name)

    dispatch[str] = dispatch[bytes] = save_string
    dispatch[type(np._core.multiarray._reconstruct)] = save_global  # type: ignore[attr-defined]  # private there


def write_python2(path: Path, content: Any) -> None:
    """A pickle as Python 2 wrote it, protocol 2."""
    with path.open("wb") as file:
        _Python2Pickler(file, protocol=2).dump(content)
