"""The summary says what happened, stays small, and the reply is its head."""

import json

import pytest

from handler.job import Artifact, Options
from handler.records import Warn
from handler.results.document import Timing
from handler.results.summarise import document_bytes, reply_of, summarise
from handler.results.write import read_lines, write
from tests.fakes import FakeBody, FakeModels
from tests.handler.results.factories import make_facts, make_frame, make_person, tracked, walk

TIMING = Timing(total_s=4.0, fps=15.0, stages_s={"perceive": 3.0})


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
        timing=TIMING,
        warnings=warnings,
        artifacts=(),
        truncated=truncated,
    )


def test_empty_video_is_a_success_with_a_warning(tmp_path):
    """Nobody in the video: completed, no tracks, NO_PEOPLE."""
    document = summary(tmp_path, [make_frame(i) for i in range(5)])

    assert (document.status, document.tracks, document.processed.frames) == ("completed", (), 5)
    assert [warning.code for warning in document.warnings] == ["NO_PEOPLE"]


def test_warnings_of_every_stage_are_kept(tmp_path):
    """What probe and decode noticed is in the result, with its frame."""
    facts = make_facts(warnings=(Warn(code="VIDEO_IS_HDR", message="not tone-mapped"),))
    damage = Warn(code="FRAMES_DAMAGED", message="one frame", frame_index=3)

    document = summary(tmp_path, walk(3), facts=facts, warnings=[damage], truncated="the file ends early")

    assert [(w.code, w.frame) for w in document.warnings] == [("VIDEO_IS_HDR", None), ("FRAMES_DAMAGED", 3)]
    assert (document.processed.truncated, document.processed.reason) == (True, "the file ends early")


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

    shapes = document.conventions.shapes

    assert set(shapes) == set(arrays)
    for name, array in arrays.items():
        size = 1
        for extent in shapes[name]:
            size *= extent
        assert size == len(array), name
    assert len(document.conventions.joint_names) == len(document.conventions.parents) == 24
    assert document.conventions.phalp_joint_names is None or len(document.conventions.phalp_joint_names) == 45


def test_summary_stays_small_with_thousands_of_people(tmp_path):
    """1,200 short tracks, long warnings: below 100 kB, all counted, the cut is told."""
    person = make_person()

    def frames():
        for index in range(400):
            people = [tracked(3 * index + k + 1, person) for k in range(3)]
            yield make_frame(index, *people)

    warnings = [Warn(code="SOMETHING_ODD", message="x" * 400, frame_index=i) for i in range(500)]

    document = summary(tmp_path, frames(), warnings=warnings, profile="full")

    assert len(document_bytes(document)) < 100_000
    assert document.quality.id_births == 1200
    assert len(document.tracks) + document.tracks_omitted == 1200
    assert len(document.tracks) >= 50
    codes = {warning.code for warning in document.warnings}
    assert {"WARNINGS_OMITTED", "TRACKS_OMITTED"} <= codes


def test_reply_is_the_head_of_the_summary(tmp_path):
    """Counts, speed and models come from the document; the data stays in the bucket."""
    document = summary(tmp_path, walk(30))
    artifact = Artifact(
        kind="result.json", key="k", bytes=1, sha256="0" * 64, content_type="application/json"
    )

    reply = reply_of(document, bucket="b", artifacts=(artifact,))

    assert (reply.job_id, reply.bucket, reply.frames, reply.people) == ("j", "b", 30, 2)
    assert (reply.fps, reply.models, reply.artifacts) == (15.0, "lite", (artifact,))
    assert reply.duration_s == pytest.approx(1.0)
    assert len(reply.model_dump_json()) < 2000
