"""Times functions and prints them as rows of ratios."""

import time
from collections.abc import Callable

import torch


def best_ms(run: Callable[[], object], *, repeats: int = 10, device: str = "cpu") -> float:
    """Milliseconds of the fastest of several runs after one to warm up.

    On the CPU it is CPU time, so that a busy machine does not count; on a GPU wall time until it is done.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    best = float("inf")
    for attempt in range(repeats + 1):
        start = clock()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        if attempt:
            best = min(best, clock() - start)
    return best * 1e3


def print_head(title: str) -> None:
    """The table's title and columns."""
    print(f"\n{title}\n{'':44}{'simplest':>12}{'ours':>12}{'ratio':>9}")


def print_row(name: str, plain_ms: float, our_ms: float) -> None:
    """One stage: the simplest correct version, ours, and how many times faster ours is."""
    print(f"{name:44}{plain_ms:9.2f} ms{our_ms:9.2f} ms{plain_ms / our_ms:8.1f}x", flush=True)
