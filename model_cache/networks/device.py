"""Tells faults that only a new process cures from other errors. Knows nothing of networks."""

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
