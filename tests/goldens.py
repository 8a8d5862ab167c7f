"""The golden files, for fixtures and for what writes test weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent / "golden"


def load_golden(name: str) -> Any:
    """`load_golden("smpl")` is tests/golden/smpl.npz; a name that ends in `.json` is that file."""
    if name.endswith(".json"):
        return json.loads((GOLDEN / name).read_text())
    with np.load(GOLDEN / f"{name}.npz") as data:
        return dict(data)
