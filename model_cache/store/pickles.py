"""Pickles, numpy arrays and PyTorch checkpoints read without running anything that they name.

Memory is bounded by the size of the file, whatever the numbers in it say. A file that is broken, cut or made
to run code is `WeightsInvalid`.
"""

import codecs
import io
import math
import mmap
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, SupportsIndex

import numpy as np
import torch
from numpy.lib import format as npy_format
from torch import Tensor

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.store.files import describe_content

# Modules that no data needs. Standing in for them would be harmless, but a file that names them was
# made to attack its reader, and the operator should hear of it.
_HOSTILE_MODULES = frozenset(
    (
        *("asyncio", "commands", "ctypes", "importlib", "marshal", "nt", "os", "pdb", "posix", "pty"),
        *("runpy", "shutil", "socket", "subprocess", "sys", "webbrowser"),
    )
)
_PLAIN_KINDS = frozenset("biufcO")
_ORDERS = frozenset("<>=|")


class Inert:
    """Stand-in for an object whose class is not loaded: keeps what the pickle tells of it, does nothing.

    Attributes:
        class_name: dotted name of the class it stands for.
        state: what its `__setstate__` would have been given.
    """

    class_name: ClassVar[str] = ""
    state: Any

    def __new__(cls, *_: object, **__: object) -> "Inert":  # noqa: D102 - as pickle calls it
        self = object.__new__(cls)
        self.state = None
        return self

    def __setstate__(self, state: object) -> None:
        self.state = state

    def _drop(self, *_: object) -> None:
        """The items of a list, set or mapping."""

    append = extend = add = __setitem__ = _drop


def _reconstructor(cls: type, _base: object, _state: object) -> object:
    """`copyreg._reconstructor`, for stand-ins alone."""
    if not issubclass(cls, Inert):
        raise pickle.UnpicklingError(f"cannot rebuild a {cls.__name__}")
    return cls()


def _bytes(content: object = b"", encoding: str = "latin1") -> bytes:
    """`bytes` of content, of a number it would be as long as the number says; also `_codecs.encode`.

    Pickles of protocol 2 spell bytes as text in latin-1; there is no other codec.
    """
    if codecs.lookup(encoding).name != "iso8859-1":
        raise pickle.UnpicklingError(f"unexpected encoding {encoding}")
    if not isinstance(content, str | bytes | bytearray):
        raise pickle.UnpicklingError("bytes without content")
    return content.encode("latin1") if isinstance(content, str) else bytes(content)


class PickledDtype:
    """A number type as a pickle describes it.

    Numpy's own unpickling trusts what it reads down to flags of its C structures, so a damaged file could
    corrupt the process. Here a pickle only describes an array: a plain number type, a shape, bytes.
    """

    def __init__(self, code: object, *_: object) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        """Takes the byte order out of numpy's (version, order, ...)."""
        if state[1] not in _ORDERS or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of a type that no weights have")
        self.order = state[1]


class PickledArray(np.ndarray):
    """An array that checks its description before it takes it on."""

    def __setstate__(self, state: Any) -> None:
        """Takes numpy's (version, shape, type, by column, content)."""
        _, shape, described, by_column, content = state
        dtype, shape = _dtype(described), _shape(shape)
        content = _bytes(content) if isinstance(content, str) else content
        kind, item = (list, 1) if dtype.hasobject else (bytes, dtype.itemsize)
        if not isinstance(content, kind) or len(content) != math.prod(shape) * item:
            raise pickle.UnpicklingError("an array whose content does not fill its shape")
        state = (1, shape, dtype, bool(by_column), content)
        super().__setstate__(state)


def _reconstruct(_cls: object, _shape: object, _code: object) -> PickledArray:
    """Numpy's `_reconstruct`: an empty array, described afterwards."""
    return np.ndarray.__new__(PickledArray, (0,))


def _scalar(described: object, content: str | bytes) -> Any:
    """Numpy's `scalar`: one number."""
    dtype = _dtype(described)
    if dtype.hasobject:
        raise pickle.UnpicklingError("a number that is an object")
    return np.frombuffer(_bytes(content), dtype, count=1)[0]


def _frombuffer(buffer: bytes | bytearray, described: object, shape: object, order: str) -> np.ndarray:
    """Numpy's `_frombuffer`: an array of protocol 5."""
    dtype = _dtype(described)
    if dtype.hasobject or order not in ("C", "F"):
        raise pickle.UnpicklingError("an array whose content is not a buffer")
    by_column: Literal["C", "F"] = "F" if order == "F" else "C"
    return np.frombuffer(buffer, dtype).reshape(_shape(shape), order=by_column)


def _dtype(described: object) -> np.dtype[Any]:
    """The real type, a plain number's or an object's."""
    if not isinstance(described, PickledDtype):
        raise pickle.UnpicklingError("an array without a type")
    dtype = np.dtype(described.code) if isinstance(described.code, str) else None
    if dtype is None or dtype.kind not in _PLAIN_KINDS or dtype.fields or dtype.subdtype:
        raise pickle.UnpicklingError(f"an array of the type {described.code!r}, which no weights have")
    return dtype.newbyteorder(described.order)  # type: ignore[arg-type]  # one of _ORDERS


def _shape(shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(isinstance(n, SupportsIndex) and int(n) >= 0 for n in shape):
        raise pickle.UnpicklingError("an array of an impossible shape")
    return tuple(int(n) for n in shape)


_KNOWN: dict[tuple[str, str], Any] = {
    **{
        ("builtins", kind.__name__): kind
        for kind in (bool, complex, dict, float, frozenset, int, list, object, set, slice, str, tuple)
    },
    ("builtins", "long"): int,
    ("builtins", "unicode"): str,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): lambda *content: bytearray(_bytes(*content)),
    ("builtins", "range"): Inert,  # a list of it would be as long as a number says
    ("builtins", "xrange"): Inert,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("copyreg", "_reconstructor"): _reconstructor,
    ("_codecs", "encode"): _bytes,
    ("numpy", "dtype"): PickledDtype,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
}
for _package in ("numpy.core", "numpy._core"):  # the name before and since numpy 2
    _KNOWN[f"{_package}.multiarray", "_reconstruct"] = _reconstruct
    _KNOWN[f"{_package}.multiarray", "scalar"] = _scalar
    _KNOWN[f"{_package}.numeric", "_frombuffer"] = _frombuffer
_PYTHON2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "UserDict": "collections"}


def _read_bytearray(unpickler: Any) -> None:
    """Opcode BYTEARRAY8; pickle's own makes room before it reads."""
    size = int.from_bytes(unpickler.read(8), "little")
    content = unpickler.read(size)
    if len(content) < size:
        raise EOFError("pickle data was truncated")
    unpickler.append(bytearray(content))


def _set_state(unpickler: Any) -> None:
    """Opcode BUILD, for objects alone: a class or function would keep its state for the files that follow."""
    if callable(unpickler.stack[-2]):
        raise pickle.UnpicklingError("a state for a class or a function")
    pickle._Unpickler.dispatch[pickle.BUILD[0]](unpickler)


class DataUnpickler(pickle._Unpickler):
    """Unpickles arrays, tensors and plain containers, and never imports another class or function.

    Built on pickle's version in Python: that in C makes room for as many objects as a number in a file says.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,
        pickle.BYTEARRAY8[0]: _read_bytearray,
        pickle.BUILD[0]: _set_state,
    }

    def find_class(self, module: str, name: str) -> Any:
        """A known data type, or an inert stand-in; `WeightsInvalid` for what only an attack needs."""
        module = _PYTHON2_MODULES.get(module, module)
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "builtins" or module.split(".")[0] in _HOSTILE_MODULES:
            raise WeightsInvalid(
                f"it asks to run `{module}.{name}`, which no data needs: nothing was run. "
                "Do not use this file; get it again from its official source"
            )
        return type(name.rpartition(".")[2], (Inert,), {"class_name": f"{module}.{name}"})


def _load(file: Any, **options: Any) -> Any:
    return DataUnpickler(file, **options).load()


def read_guarded(path: Path, read: Callable[[], Any]) -> Any:
    """What `read` returns; any failure but `WeightsMissing` becomes a sentence about the file.

    Raises:
        WeightsInvalid: always with the file's name in front.
    """
    try:
        return read()
    except WeightsMissing:
        raise
    except WeightsInvalid as error:
        raise WeightsInvalid(f"{path.name}: {error}") from error
    except Exception as error:
        raise WeightsInvalid(
            f"{path.name}: {describe_content(path)} ({type(error).__name__}: {str(error)[:160]})"
        ) from error


def read_pickle(path: Path) -> Any:
    """A pickled object, also of Python 2, whose classes may not exist here."""

    def read() -> Any:
        # Mapped, since a file makes room for as many bytes as a read asks for before it reads them.
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _load(content, encoding="latin1")  # Python 2 strings hold array bytes

    return read_guarded(path, read)


def read_npy(path: Path) -> np.ndarray:
    """A `.npy` file, also one that holds an array of objects."""

    def read() -> np.ndarray:
        content = io.BytesIO(path.read_bytes())
        version = npy_format.read_magic(content)
        header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        _, _, dtype = header(content)
        if dtype.hasobject:
            return np.asarray(_load(content, encoding="latin1"))
        content.seek(0)
        return npy_format.read_array(content, allow_pickle=False)

    return read_guarded(path, read)  # type: ignore[no-any-return]  # read_guarded passes through


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote.

    Tensors of today's (zip) format are mapped from the file, so a checkpoint larger than the memory can
    be read; those of the format before torch 1.6 are loaded.
    """

    def read() -> Any:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            with zipfile.ZipFile(path) as archive:
                if any(name.endswith("constants.pkl") for name in archive.namelist()):
                    raise WeightsInvalid("this is a TorchScript program, a checkpoint of weights is needed")
        else:
            with path.open("rb") as file:
                if file.read(1) != b"\x80":
                    raise ValueError("neither a zip archive nor a pickle")
        # All that torch uses of a module in pickle's place.
        module = SimpleNamespace(__name__=__name__, Unpickler=DataUnpickler, load=_load)
        return torch.load(path, map_location="cpu", mmap=zipped, weights_only=False, pickle_module=module)

    content = read_guarded(path, read)
    if not isinstance(content, dict):
        raise WeightsInvalid(
            f"{path.name}: a checkpoint is a dictionary, this holds a {type(content).__name__}"
        )
    return content


def checkpoint_tensors(path: Path, entry: str) -> dict[str, Tensor]:
    """The tensors under a checkpoint's `entry`."""
    content = read_checkpoint(path)
    state = content.get(entry)
    if not isinstance(state, Mapping):
        found = ", ".join(sorted(str(key) for key in content)[:8]) or "nothing"
        raise WeightsInvalid(
            f"{path.name}: the entry `{entry}` with the weights is missing (there is: {found})"
        )
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
