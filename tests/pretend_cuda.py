"""A pretend CUDA device: tensors that say cuda:0, compute on the CPU, refuse CPU tensors, and are counted.

It proves devices, data types, shapes and who waits for whom; not that a CUDA kernel exists, nor its speed.
Launches are those of ATen's operations, so a few more or less than a GPU's.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda:0")
# Operations whose results have a shape that only the device knows: the host waits, no graph can hold them.
SHAPE_HANGS_ON_DATA = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
READS = {"_local_scalar_dense", "equal", "is_nonzero"}  # a number goes to the host
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}  # these take indices from the host
MEMORY_ONLY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
TRANSFERS = {"to", "cpu", "cuda", "tolist", "numpy"}
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_module_to = nn.Module.to


class Counts:
    """What happened since the last `clear`, by kind."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()  # of the host for the device
        self.uploads: Counter[str] = Counter()  # copies from the host, by kind of memory
        self.hanging_shapes: Counter[str] = Counter()


def is_there(value: Any) -> bool:
    """Whether this is a tensor on the pretend device."""
    return isinstance(value, Tensor) and hasattr(value, "pretend_cuda")


def put(value: Any) -> Any:
    """The same tensor or module, on the device from now on."""
    tensors = [*value.parameters(), *value.buffers()] if isinstance(value, nn.Module) else [value]
    for tensor in tensors:
        tensor.pretend_cuda = True
    return value


def _place(values: Iterable[Any]) -> torch.device | None:
    """The device that is named among the arguments of a call."""
    names = ("cpu", "cuda", "cuda:0")
    named = (v for v in values if isinstance(v, torch.device) or (isinstance(v, str) and v in names))
    return next(map(torch.device, named), None)


def _move(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    place = _place((*args, *kwargs.values()))
    return put(module) if place and place.type == "cuda" else _module_to(module, *args, **kwargs)


class _Calls(TorchFunctionMode):
    """What Python asks of torch: devices are answered, and transfers done, here."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__" and is_there(args[0]):
            attribute = getattr(func.__self__, "__name__", "")
            if attribute in ("device", "is_cuda", "is_cpu"):
                return {"device": CUDA, "is_cuda": True, "is_cpu": False}[attribute]
        if name in TRANSFERS and isinstance(args[0], Tensor):
            return self._transfer(name, func, args, kwargs)
        pinned = kwargs.pop("pin_memory", False)
        if func is torch.device or _place(kwargs.values()) in (None, torch.device("cpu")):
            result = func(*args, **kwargs)
        else:  # something new on the device
            result = put(func(*args, **(kwargs | {"device": "cpu"})))
            if name in ("tensor", "as_tensor"):
                self._upload("pageable")
        if pinned:
            result.pinned = True
        return result

    def _transfer(self, name: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        source, values = args[0], (*args[1:], *kwargs.values())
        if name in ("numpy", "tolist") and not is_there(source):
            return func(*args, **kwargs)
        if name == "numpy":
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        kind = next((value for value in values if isinstance(value, torch.dtype)), source.dtype)
        to = CUDA if name == "cuda" else torch.device("cpu") if name in ("cpu", "tolist") else _place(values)
        if to is None or (to.type == "cuda") == is_there(source):
            return source if kind == source.dtype else source.type(kind)
        with _disable_current_modes():
            copy = source.detach().clone().to(kind)
        waits = not kwargs.get("non_blocking", False)
        if to.type == "cuda":
            self._upload("pinned" if hasattr(source, "pinned") and not waits else "pageable")
            return put(copy)
        if waits:
            self.counts.waits["copy to the host"] += 1
        return copy.tolist() if name == "tolist" else copy

    def _upload(self, memory: str) -> None:
        self.counts.uploads[memory] += 1
        if memory == "pageable":
            self.counts.waits["copy from pageable memory"] += 1


class _Operations(TorchDispatchMode):
    """ATen's operations: devices must agree; launches and waits are counted."""

    def __init__(self, counts: Counts) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE.name):
            with self:  # it is what it is made of
                return func._op_dk(COMPOSITE, *args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if is_there(tensor)]
        result = func(*args, **kwargs)
        if not there:
            return result
        strangers = [t for t in tensors if not is_there(t) and t.dim() and name not in ("copy_", "_to_copy")]
        if name in INDEXING and is_there(args[0]):
            if strangers:
                self.counts.waits["an index from the host"] += 1
        elif strangers:
            raise RuntimeError(f"{name} got tensors on cuda:0 and on the cpu")
        self._count(name, func, args, kwargs)
        before = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        is_new = any(leaf.untyped_storage().data_ptr() not in before for leaf in results)
        if name not in MEMORY_ONLY and (func._schema.is_mutable or is_new):
            self.counts.launches[name] += 1
        return tree_map_only(Tensor, put, result)

    def _count(self, name: str, func: Any, args: Any, kwargs: Any) -> None:
        """Waits of an operation."""
        if name == "copy_" and is_there(args[0]) != is_there(args[1]):
            self.counts.waits["copy to the host" if is_there(args[1]) else "copy from pageable memory"] += 1
        masks = name in INDEXING and any(t is not None and t.dtype == torch.bool for t in args[1])
        counted = name == "repeat_interleave" and kwargs.get("output_size") is None
        if masks or counted or name in SHAPE_HANGS_ON_DATA:
            self.counts.hanging_shapes[name] += 1
        if masks or counted or name in SHAPE_HANGS_ON_DATA | READS:
            self.counts.waits[name] += 1


@contextmanager
def pretend_cuda() -> Iterator[Counts]:
    """A block in which `torch.device("cuda")` works, for what is `put` or moved there."""
    counts = Counts()
    stream = SimpleNamespace(synchronize=lambda: counts.waits.update(["synchronize"]))
    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.cuda, "current_stream", lambda device=None: stream))
        stack.enter_context(patch.object(torch.cuda, "empty_cache", lambda: None))
        stack.enter_context(patch.object(nn.Module, "to", _move))
        stack.enter_context(_Operations(counts))
        stack.enter_context(_Calls(counts))
        yield counts
