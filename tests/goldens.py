"""The golden files, for fixtures and for what writes test weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # tests of the handler need no torch
    from model_cache.networks.detector import Detections

GOLDEN = Path(__file__).parent / "golden"


def load_golden(name: str) -> Any:
    """`load_golden("smpl")` is tests/golden/smpl.npz; a name that ends in `.json` is that file."""
    if name.endswith(".json"):
        return json.loads((GOLDEN / name).read_text())
    with np.load(GOLDEN / f"{name}.npz") as data:
        return dict(data)


def golden_detections() -> "dict[int, Detections]":
    """What the official run's detector found in its 20 frames, (480, 854) each, by frame index."""
    from model_cache.networks.detector import Detections

    data = load_golden("e2e")
    masks = np.unpackbits(data["masks_packed"], axis=-1, count=854).astype(bool)
    rows = np.split(np.arange(len(masks)), np.cumsum(data["n_dets"])[:-1])
    return {
        frame: Detections(bbox_xyxy=data["boxes"][here], scores=data["scores"][here], masks=masks[here])
        for frame, here in enumerate(rows)
    }
