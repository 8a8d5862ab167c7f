"""What every test shares: the golden files, one thread for torch, GPU marks that skip themselves."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `needs_gpu` without a GPU, unless FAIL_WITHOUT_GPU=1 asks for a failure."""
    marked = [item for item in items if item.get_closest_marker("needs_gpu")]
    if not marked or os.environ.get("FAIL_WITHOUT_GPU") == "1":  # noqa: TID251 - a switch of the tests only
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def golden():
    """`golden("smpl")` loads tests/golden/smpl.npz; `golden("e2e_output.json")` loads a JSON file."""

    def load(name: str) -> Any:
        if name.endswith(".json"):
            return json.loads((GOLDEN / name).read_text())
        with np.load(GOLDEN / f"{name}.npz") as data:
            return dict(data)

    return load
