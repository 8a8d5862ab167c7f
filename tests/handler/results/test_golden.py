"""One result, checked in: it changes only when somebody means it to.

python -m tests.handler.results.test_golden        writes the files anew
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from handler.job import Artifact, Options
from handler.records import Warn
from handler.results.document import ResultDocument, Timing
from handler.results.summarise import document_bytes, summarise
from handler.results.write import read_lines, write
from tests.fakes import FakeBody, FakeModels
from tests.handler.results.factories import make_facts, walk

FOLDER = Path(__file__).parents[2] / "golden" / "result"
RESULT = FOLDER / "result.json"
FRAMES = FOLDER / "frames.jsonl"


def make(into: Path) -> tuple[ResultDocument, list[bytes]]:
    """Six frames of two people, one of them lost twice."""
    options = Options()
    written = write(walk(6, lose_every=3), options=options, body=FakeBody(), into=into)
    document = summarise(
        job_id="golden-1",
        input_sha256="1" * 64,
        options=options,
        facts=make_facts(),
        written=written,
        models=FakeModels().description,
        timing=Timing(total_s=2.0, fps=3.0, stages_s={"download": 0.5, "perceive": 1.0}),
        warnings=[Warn(code="FRAMES_DAMAGED", message="the decoder reported damage", frame_index=3)],
        artifacts=(
            Artifact(
                kind="frames.jsonl.gz",
                key="a/golden-1/frames.jsonl.gz",
                bytes=1,
                sha256="2" * 64,
                content_type="application/gzip",
                encoding="gzip",
            ),
        ),
    )
    return document, list(read_lines(written.frames_path))


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Equal in form; numbers within the last written digit, which may round either way on another machine."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    elif isinstance(expected, float):
        slack = 0.11 if "bbox" in where or "joints_2d" in where else 1.1e-4
        assert found == pytest.approx(expected, abs=slack, rel=1e-3 if "jitter" in where else 0), where
    else:
        assert found == expected, where


def test_result_is_the_golden_one(tmp_path):
    """Summary and frames are those checked in, field by field and in this order."""
    document, lines = make(tmp_path)

    assert_same(json.loads(document_bytes(document)), json.loads(RESULT.read_text()))
    assert_same(
        [json.loads(line) for line in lines], [json.loads(s) for s in FRAMES.read_text().splitlines()]
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        document, lines = make(Path(folder))
    RESULT.write_bytes(document_bytes(document) + b"\n")
    FRAMES.write_bytes(b"\n".join(lines) + b"\n")
