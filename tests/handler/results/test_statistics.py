"""The summary's numbers are those of the frames."""

import json
import pickle
from math import prod

import numpy as np
import pytest

from handler.job import Options
from handler.records import Warn
from handler.results.document import Timing
from handler.results.statistics import MAX_SAMPLES, MAX_TRACKS, Statistics, ThinnedSamples
from handler.results.summarise import document_bytes, summarise
from handler.results.write import read_lines, write
from tests.fakes import FakeBody, FakeModels
from tests.handler.results.factories import make_facts, make_frame, make_person, predicted, tracked, walk


def gathered(frames) -> Statistics:
    """Statistics that have seen the frames."""
    statistics = Statistics(forget_frames=55)
    for frame in frames:
        statistics.add(frame)
    return statistics


def test_counts_are_those_of_the_frames():
    """People measured, lost, found again and never assigned are counted."""
    one, two = make_person(1), make_person(2, scores=np.array([0.8], np.float32))
    frames = [
        make_frame(0, tracked(1, one), num_detected=3),
        make_frame(1, tracked(1, one), tracked(2, two)),
        make_frame(2, predicted(1, one), tracked(2, two)),
        make_frame(3, tracked(1, one), tracked(2, two), shot=True),
        make_frame(4, predicted(1, one), predicted(2, two), is_corrupt=True),
        make_frame(5),
    ]

    quality, tracks = gathered(frames).finish()

    assert quality.model_dump(exclude={"jitter_m_s3"}) == {
        "frames_with_people": 4,
        "person_frames_tracked": 6,
        "person_frames_predicted": 3,
        "id_births": 2,
        "gaps": 1,
        "detections_unassigned": 2,
        "mean_score": pytest.approx(0.85),
        "shots": 1,
        "corrupt_frames": 1,
    }
    found = [(t.track_id, t.first_frame, t.last_frame, t.n_tracked, t.n_predicted, t.gaps) for t in tracks]
    assert found == [(1, 0, 4, 3, 2, 1), (2, 1, 4, 3, 1, 0)]


def test_jitter_is_the_third_derivative():
    """A body whose joints follow t^3 about the pelvis has a third derivative of 6; gaps do not count."""
    direction = np.zeros((1, 24, 3), np.float32)
    direction[:, 1:, 0] = 1
    bodies = [make_person(smpl_joints_3d=direction * np.float32((i / 30) ** 3)) for i in range(60)]

    frames = [make_frame(i, tracked(1, body)) for i, body in enumerate(bodies)]
    frames[30] = make_frame(30, predicted(1, bodies[29]))

    quality, _ = gathered(frames).finish()

    assert quality.jitter_m_s3 == pytest.approx(6 * 23 / 24, rel=0.05)


@pytest.mark.parametrize("num", [1, 40, 41, MAX_SAMPLES, 1000, 10_000, 12_345])
def test_thinned_samples_stay_bounded_and_spread(num):
    """At most 64 are kept, from the whole span: their median is that of all, or close to it."""
    samples, most = ThinnedSamples(), ThinnedSamples()
    for i in range(num):
        samples.add(np.array([i], np.float32))
    for i in range(MAX_SAMPLES):
        most.add(np.array([num + i], np.float32))

    assert samples.median()[0] == pytest.approx((num - 1) / 2, rel=0 if num <= MAX_SAMPLES else 0.03)
    assert len(pickle.dumps(samples)) <= len(pickle.dumps(most)) + 10  # of longer numbers


def test_hundreds_of_tracks_keep_the_longest():
    """All are counted, the longest are listed by id, and memory holds no more than those."""
    statistics = Statistics(forget_frames=3)
    person, sizes = make_person(), {}
    frame_index, long_ids = 0, set(range(100, 600, 20))
    for track_id in range(1, 601):
        for _ in range(3 if track_id in long_ids else 1):
            statistics.add(make_frame(frame_index, tracked(track_id, person)))
            frame_index += 1
        sizes[track_id] = len(pickle.dumps(statistics)) if track_id % 200 == 0 else 0

    assert sizes[600] < 1.05 * sizes[200]
    quality, tracks = statistics.finish()
    assert (quality.id_births, quality.person_frames_tracked) == (600, frame_index)
    ids = [track.track_id for track in tracks]
    assert len(ids) == MAX_TRACKS
    assert long_ids <= set(ids)
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    ("pts", "is_vfr"),
    [
        ([0, 512, 1024, 1536], False),
        ([0, 33, 67, 100, 133], False),  # 29.97 frames/s in milliseconds
        ([0, 1, 2, 4, 5], True),  # a dropped frame where a tick is a frame
        ([0, 512, 1536, 2048], True),
        ([0], False),
    ],
    ids=["even", "rounded", "dropped", "uneven", "single"],
)
def test_variable_rate_is_seen(pts, is_vfr):
    """Rounding to the time base is not a variable rate; a longer gap is."""
    frames = [make_frame(i, pts=tick, pts_seconds=tick / 15360) for i, tick in enumerate(pts)]

    assert gathered(frames).span().is_vfr == is_vfr


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
