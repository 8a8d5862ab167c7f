"""Frames of the shipped clip and its truth, for tests of the bundled models."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from benchmarks.clip_truth import ClipTruth, read_truth

CLIP = Path(__file__).parents[3] / "examples" / "four_people.mp4"


def read_frames(indices: Sequence[int]) -> tuple[list[np.ndarray], ClipTruth]:
    """The frames of these indices, in order, and the truth of the whole clip."""
    with av.open(str(CLIP)) as container:
        images = [
            picture.to_ndarray(format="bgr24")
            for index, picture in enumerate(container.decode(video=0))
            if index in indices
        ]
    return images, read_truth(CLIP)
