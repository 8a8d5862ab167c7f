"""What every test shares: the golden files, the same random numbers, GPU marks that skip themselves."""

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import numpy as np
import pytest

from tests.goldens import load_golden
from tests.no_authorities import know_none

know_none()
# Torch's threads wait for each other busily; beside other work that takes many times as long as one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # noqa: TID251 - read when torch is imported

# The same examples in every run: a red run must mean a change. `--hypothesis-profile=default` draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `needs_gpu` without a GPU, unless FAIL_WITHOUT_GPU=1 asks for a failure."""
    marked = [item for item in items if item.get_closest_marker("needs_gpu")]
    if not marked or os.environ.get("FAIL_WITHOUT_GPU") == "1":  # noqa: TID251 - a switch of the tests only
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        return
    from model_cache.networks.device import use_exact_float32

    use_exact_float32()  # as a worker does when it loads


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-randomly vary the order, not the numbers; heed signals in the background too."""
    config.option.randomly_reset_seed = False
    # `nohup` and a shell's `&` ignore them; processes that tests start inherit that.
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """The same numbers in every test, whatever ran before."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def unchecked_types() -> Iterator[None]:
    """For a long loop over what shorter tests go through with every annotation checked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def golden():
    """`golden("smpl")` loads tests/golden/smpl.npz; `golden("e2e_output.json")` loads a JSON file."""
    return load_golden


@pytest.fixture(scope="session")
def official_tiny_files(tmp_path_factory) -> Path:
    """A folder laid out as the official downloads, with the goldens' small weights. Do not change it."""
    from tests.weight_rule import write_official_files  # imports torch, which handler tests do without

    return write_official_files(tmp_path_factory.mktemp("official") / "files")


@pytest.fixture(scope="session")
def official_tiny_store(official_tiny_files, tmp_path_factory) -> Path:
    """The weights store converted from `official_tiny_files`. Do not change it."""
    from ops.weights.convert import convert

    store = tmp_path_factory.mktemp("official") / "store"
    convert([official_tiny_files], store)
    return store
