"""Waits for what another process or thread does."""

import time
from collections.abc import Callable
from typing import Any

WAIT_SECONDS = 60.0  # never waited in full unless something is broken


def wait_until(is_true: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """What `is_true` returns, once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := is_true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)  # the other side is a process, which has no event to wait for
    return found
