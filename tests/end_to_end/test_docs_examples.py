"""The complete examples of the pages about one's own models, as they stand there, through a whole job."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy_scores import box_iou, match
from benchmarks.clip_truth import read_truth
from tests.model_cache.lite.shipped_clip import CLIP

ROOT = Path(__file__).parents[2]
LONGEST_EXAMPLE = 60  # lines
SAME_PERSON = 0.4  # overlap of boxes; those of histograms are rough


def run_page(page: str, folder: Path) -> tuple[dict, list[dict]]:
    """Save the page's program under the name it gives it and run its command; the summary and the frames."""
    text = (ROOT / "docs" / page).read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (command,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    (name,) = re.findall(r"Save this as `(\w+\.py)`", text)
    assert len(program.splitlines()) < LONGEST_EXAMPLE
    (folder / name).write_text(program)
    (folder / "examples").symlink_to(CLIP.parent)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # noqa: TID251 - the command's environment
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with gzip.open(folder / "out" / "frames.jsonl.gz") as lines:
        return json.loads((folder / "out" / "result.json").read_text()), [json.loads(line) for line in lines]


def share_found(frames: list[dict]) -> float:
    """The share of the people in sight that are measured in boxes like theirs."""
    truth = read_truth(CLIP)
    hits = expected = 0
    for frame in frames:
        people = [p for p in range(len(truth.betas)) if truth.counts(frame["frame"], p)]
        boxes = [p["bbox_xyxy"] for p in frame["people"] if p["state"] == "tracked"]
        overlap = box_iou(np.array(boxes).reshape(-1, 4), truth.bbox_xyxy[frame["frame"], people])
        hits, expected = hits + len(match(overlap, SAME_PERSON)), expected + len(people)
    return hits / expected


@pytest.mark.slow
def test_the_detector_of_the_page_finds_people(tmp_path):
    """OpenCV's detector finds two in five of the people in sight, and the result names it."""
    result, frames = run_page("16-another-detector.md", tmp_path)

    assert result["models"]["detector"] == "hog_people:HogPeople"
    assert "movenet.onnx" not in [file["name"] for file in result["models"]["files"]]
    assert len(frames) == 25
    assert share_found(frames) > 0.4  # 0.49


@pytest.mark.slow
def test_the_regressor_of_the_page_gives_bodies(tmp_path):
    """All four people are tracked with it, and the result names it and hashes its file once."""
    result, frames = run_page("17-another-body-regressor.md", tmp_path)

    assert result["models"]["backbone"] == "both_ways:BothWays"
    files = [(file["role"], file["name"]) for file in result["models"]["files"]]
    assert files.count(("body regressor", "hmr2.safetensors")) == 1
    assert ("hmr2", "hmr2.safetensors") not in files
    assert share_found(frames) > 0.8  # 0.91
