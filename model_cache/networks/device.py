"""How networks use a device: exact float32, copies from and to it, its faults and its memory."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from model_cache.errors import DeviceFault, DeviceOutOfMemory

# Torch has types for its own allocator's refusal and for errors of the CUDA runtime. What cuBLAS, cuDNN and
# the driver say is a plain RuntimeError, and memory can also end in their hands.
_OUT_OF_MEMORY = re.compile(r"error: out of memory|ALLOC(ATION)?_FAILED|can't allocate memory")
_DEVICE_FAILED = re.compile(r"CU[A-Z]+_STATUS_|CUDA( driver)? error|cuDNN|NVML_|unable to find an engine")


@contextmanager
def device_faults() -> Iterator[None]:
    """Tells errors of the device apart from errors of the code.

    Raises:
        DeviceOutOfMemory: its memory ended, whoever asked for it.
        DeviceFault: it failed (an illegal access, a lost GPU, a library that gave up).
    """
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        if isinstance(error, torch.OutOfMemoryError) or _OUT_OF_MEMORY.search(reason):
            raise DeviceOutOfMemory(reason) from error
        if isinstance(error, torch.AcceleratorError) or _DEVICE_FAILED.search(reason):
            raise DeviceFault(f"the device failed: {reason}") from error
        raise


def use_exact_float32() -> None:
    """Keeps float32 products in float32 from now on: torch lets cuDNN round them to TF32 (10 bits).

    For the whole process, so it is called once, at load: threads that switched it would switch each other's.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16 itself; older GPUs (T4, V100) emulate it, slower than float32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def to_device(arrays: Sequence[ndarray], device: torch.device) -> list[Tensor]:
    """The arrays, of one type, on the device, by one copy that nobody waits for; on the CPU as they are."""
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    sizes = [array.size for array in arrays]
    # Pinned memory: a copy from any other makes the host wait. Torch reuses it when the copy is done.
    kind = torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
    staged = torch.empty(sum(sizes), dtype=kind, pin_memory=True)
    np.concatenate([array.reshape(-1) for array in arrays], out=staged.numpy())
    parts = torch.split(staged.to(device, non_blocking=True), sizes)
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def to_host(*tensors: Tensor) -> list[ndarray]:
    """The tensors, on one device, as arrays; waits for the device once."""
    device = tensors[0].device
    copies = [tensor.to("cpu", non_blocking=True) for tensor in tensors]  # pinned, as torch makes them
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return [copy.numpy() for copy in copies]


def peak_memory(device: torch.device) -> int | None:
    """Most bytes of the device in use since the last call, as it sees them; None on the CPU.

    Torch's reserve at its largest, and all that is outside of it now: the CUDA context, the libraries'
    workspaces, and other processes.
    """
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    outside = total - free - torch.cuda.memory_reserved(device)
    peak = torch.cuda.max_memory_reserved(device) + outside
    torch.cuda.reset_peak_memory_stats(device)
    return peak
