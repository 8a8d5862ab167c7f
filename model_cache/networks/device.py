"""How networks run on a device: exact float32, and faults that only a new process cures."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model_cache.errors import DeviceFault


@contextmanager
def device_faults() -> Iterator[None]:
    """Raises `DeviceFault` where torch reports that the device failed (an illegal access, a lost GPU)."""
    try:
        yield
    except torch.AcceleratorError as error:
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise DeviceFault(f"the device failed: {reason}") from error


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keeps float32 products in float32: torch lets cuDNN round them to TF32 (10 bits) by default."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
