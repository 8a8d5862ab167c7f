"""The summary says what happened and stays small."""

import json
from math import prod

import pytest

from handler.job import Options
from handler.records import Warn
from handler.results.document import Timing
from handler.results.summarise import document_bytes, summarise
from handler.results.write import read_lines, write
from tests.fakes import FakeBody, FakeModels
from tests.handler.results.factories import make_facts, make_frame, make_person, tracked, walk


def summary(tmp_path, frames, *, warnings=(), truncated=None, facts=None, **options):
    """The document of a job with these frames."""
    chosen = Options(**options)
    return summarise(
        job_id="j",
        input_sha256="0" * 64,
        options=chosen,
        facts=facts or make_facts(),
        written=write(frames, options=chosen, body=FakeBody(), into=tmp_path),
        models=FakeModels().description,
        timing=Timing(total_s=4.0, fps=15.0, stages_s={"perceive": 3.0}),
        warnings=warnings,
        artifacts=(),
        truncated=truncated,
    )


def test_warnings_of_every_stage_are_kept(tmp_path):
    """What probe, decode and writing noticed is in the result, with its frame; nobody there is a success."""
    facts = make_facts(warnings=(Warn(code="VIDEO_IS_HDR", message="not tone-mapped"),))
    damage = Warn(code="FRAMES_DAMAGED", message="one frame", frame_index=3)
    frames = [make_frame(i) for i in range(5)]

    document = summary(tmp_path, frames, facts=facts, warnings=[damage], truncated="the file ends early")

    assert [(warning.code, warning.frame) for warning in document.warnings] == [
        ("VIDEO_IS_HDR", None),
        ("FRAMES_DAMAGED", 3),
        ("NO_PEOPLE", None),
    ]
    assert (document.processed.truncated, document.processed.reason) == (True, "the file ends early")
    assert (document.status, document.tracks, document.processed.frames) == ("completed", (), 5)


def test_summary_tells_decoded_from_processed(tmp_path):
    """With a stride, the frames decoded and the frames kept are both told."""
    frames = [make_frame(i, source_index=10 + 3 * i, pts_seconds=1 + i / 10) for i in range(4)]

    document = summary(tmp_path, frames, stride=3)

    assert (document.source.frames_decoded, document.processed.frames) == (20, 4)
    assert (document.processed.start_s, document.processed.end_s) == (1.0, 1.3)
    assert document.processed.stride == 3


@pytest.mark.parametrize("profile", ["params", "standard", "full"])
def test_conventions_describe_the_profile(tmp_path, profile):
    """Every flat array of a line is listed with a shape of its length."""
    document = summary(tmp_path, walk(1), profile=profile)
    person = json.loads(next(read_lines(tmp_path / "frames.jsonl.gz")))["people"][0]
    arrays = person["smpl"] | {key: person[key] for key in ("joints_3d", "joints_2d") if key in person}
    arrays |= {f"phalp.{key}": value for key, value in person.get("phalp", {}).items() if "joints" in key}

    conventions = document.conventions

    assert {name: prod(shape) for name, shape in conventions.shapes.items()} == {
        name: len(array) for name, array in arrays.items()
    }
    assert len(conventions.joint_names) == len(conventions.parents) == 24
    assert len(conventions.phalp_joint_names or ()) == (45 if profile == "full" else 0)


def test_summary_stays_small_with_thousands_of_people(tmp_path):
    """1,200 short tracks, long warnings: below 100 kB, all counted, the cut is told."""
    person = make_person()
    frames = (make_frame(i, *[tracked(3 * i + k, person) for k in (1, 2, 3)]) for i in range(400))
    warnings = [Warn(code="SOMETHING_ODD", message="x" * 400, frame_index=i) for i in range(500)]

    document = summary(tmp_path, frames, warnings=warnings, profile="full")

    assert len(document_bytes(document)) < 100_000
    assert document.quality.id_births == 1200
    assert len(document.tracks) + document.tracks_omitted == 1200
    assert len(document.tracks) >= 50
    codes = [warning.code for warning in document.warnings]
    assert codes == ["SOMETHING_ODD"] * 49 + ["WARNINGS_OMITTED", "TRACKS_OMITTED"]
