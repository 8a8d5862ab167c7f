"""Frames reach the disk whole, in order, and in constant memory."""

import errno
import gzip
import json
import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from handler.errors import ComputeError, WorkerError
from handler.job import ChosenPerson, Options
from handler.results.document import FrameRecord
from handler.results.write import read_lines, write, write_document
from handler.transfer.errors import disk_full_is_coded
from tests.fakes import FakeBody
from tests.handler.results.factories import make_frame, make_info, make_person, predicted, tracked, walk


def written_lines(tmp_path, frames, **options) -> tuple[list[dict], object]:
    """The parsed lines of the file, and what `write` gave."""
    written = write(frames, options=Options(**options), body=FakeBody(), into=tmp_path)
    return [json.loads(line) for line in read_lines(written.frames_path)], written


def test_every_frame_has_its_line(tmp_path):
    """As many lines as frames, in order, empty ones included; plain gzip and JSON read them."""
    frames = [*walk(5), make_frame(5)]

    lines, _ = written_lines(tmp_path, frames)

    with gzip.open(tmp_path / "frames.jsonl.gz", "rt") as file:
        assert [json.loads(line) for line in file] == lines
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert [len(line["people"]) for line in lines] == [2, 2, 2, 2, 2, 0]
    assert [line["time_s"] for line in lines] == [round(frame.info.pts_seconds, 6) for frame in frames]


def test_same_frames_give_the_same_bytes(tmp_path):
    """The file depends on nothing but the frames: no clock, no name."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    write(walk(20), options=Options(), body=FakeBody(), into=tmp_path / "a")
    write(walk(20), options=Options(), body=FakeBody(), into=tmp_path / "b")

    name = "frames.jsonl.gz"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_gap_is_never_written(tmp_path):
    """A missing frame is a bug upstream and ends the job."""
    with pytest.raises(RuntimeError, match="frame 1 is missing"):
        write([make_frame(0), make_frame(2)], options=Options(), body=FakeBody(), into=tmp_path)


def test_broken_number_ends_the_job(tmp_path):
    """A NaN in the middle of a video is a coded error."""
    bad = make_person(betas=np.full((1, 10), np.nan, np.float32))

    with pytest.raises(ComputeError) as failed:
        write(
            [make_frame(0), make_frame(1, tracked(1, bad))], options=Options(), body=FakeBody(), into=tmp_path
        )
    assert failed.value.code == "MODEL_OUTPUT_INVALID"


def test_lost_people_are_left_out_if_not_wanted(tmp_path):
    """`include_predicted` off keeps measured people only."""
    with_lost, _ = written_lines(tmp_path, walk(8, lose_every=4))
    without, written = written_lines(tmp_path, walk(8, lose_every=4), include_predicted=False)

    assert [person["state"] for person in with_lost[3]["people"]] == ["predicted", "tracked"]
    assert [len(line["people"]) for line in without] == [2, 2, 2, 1, 2, 2, 2, 1]
    assert written.quality.person_frames_predicted == 0


def test_document_holds_the_same_frames(tmp_path):
    """`frames.json` is one JSON document with the very lines, and says what they mean."""
    lines, written = written_lines(tmp_path, walk(4))

    document = json.loads(
        write_document(written, options=Options(), job_id="j-1", into=tmp_path).read_bytes()
    )

    assert document["frames"] == lines
    assert document["schema"] == "hmr2-phalp/frames/1.0"
    assert document["conventions"]["shapes"]["joints_3d"] == [24, 3]
    assert document["camera"]["source"] == "assumed"


def test_document_without_frames_is_valid(tmp_path):
    """No frames give an empty list, not broken JSON."""
    _, written = written_lines(tmp_path, [])

    document = json.loads(write_document(written, options=Options(), job_id="j", into=tmp_path).read_bytes())

    assert document["frames"] == []


def test_known_camera_is_named(tmp_path):
    """The camera in the summary is the caller's, and says so."""
    _, written = written_lines(tmp_path, walk(1), camera={"fx": 900})

    assert written.camera.model_dump() == {
        "model": "pinhole",
        "fx": 900,
        "fy": 900,
        "cx": 320,
        "cy": 240,
        "source": "user",
        "metric_depth": False,
    }


def test_full_disk_is_coded():
    """ENOSPC is DISK_FULL, any other error stays what it is."""
    with pytest.raises(WorkerError) as full, disk_full_is_coded("write"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (full.value.code, full.value.stage) == ("DISK_FULL", "write")
    with pytest.raises(PermissionError), disk_full_is_coded("write"):
        raise PermissionError


@pytest.mark.usefixtures("unchecked_types")
def test_memory_does_not_grow_with_the_video(tmp_path):
    """Five times the frames take the same memory, once the buffers are full."""
    some = list(walk(50, lose_every=5))

    def many(num_frames: int):
        for i in range(num_frames):
            yield replace(some[i % 50], info=make_info(i))

    def peak(num_frames: int) -> int:
        tracemalloc.start()
        write(many(num_frames), options=Options(), body=FakeBody(), into=tmp_path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)

    assert peak(500) < peak(100) * 1.05


def test_lines_satisfy_the_model_after_the_disk(tmp_path):
    """What is read back is what the schema promises."""
    lines, _ = written_lines(tmp_path, walk(3), profile="full")

    assert [FrameRecord.model_validate(line).frame for line in lines] == [0, 1, 2]


# One chosen person


def test_chosen_point_keeps_one_identity_everywhere(tmp_path):
    """Who stands at the point at that time is kept before and after it, all others go."""
    point = (100 + 60 + 30, 210)  # person 2 in frame 30

    lines, written = written_lines(
        tmp_path, walk(60, num_people=3), person=ChosenPerson(time_s=1.0, point=point)
    )

    assert {person["track_id"] for line in lines for person in line["people"]} == {2}
    assert [len(line["people"]) for line in lines] == [1] * 60
    assert written.quality.id_births == 1
    assert written.warnings == ()
    assert not (tmp_path / "waiting.pickle").exists()


def test_chosen_box_keeps_who_overlaps_most(tmp_path):
    """Of overlapping people the one whose box fits best."""
    box = (100 + 120 - 40, 220 - 90, 100 + 120 + 45, 220 + 90)  # person 3 in frame 0, a little off

    lines, _ = written_lines(tmp_path, walk(5, num_people=4), person=ChosenPerson(box=box))

    assert {person["track_id"] for line in lines for person in line["people"]} == {3}


def test_nobody_at_the_point_is_told(tmp_path):
    """An empty place gives every frame without people, and a warning."""
    lines, written = written_lines(tmp_path, walk(60), person=ChosenPerson(point=(5, 5)))

    assert [len(line["people"]) for line in lines] == [0] * 60
    assert [warning.code for warning in written.warnings] == ["PERSON_NOT_FOUND"]


def test_chosen_time_after_the_end_is_told(tmp_path):
    """A time beyond the video keeps nobody and loses no frame."""
    lines, written = written_lines(tmp_path, walk(10), person=ChosenPerson(time_s=99, point=(100, 200)))

    assert len(lines) == 10
    assert [warning.code for warning in written.warnings] == ["PERSON_NOT_FOUND"]


@pytest.mark.parametrize(
    ("frames", "options", "codes", "words"),
    [
        ([], {}, ["NO_PEOPLE"], ["nobody was found in the video"]),
        ([1] * 8, {}, [], []),
        ([1] * 8, {"person": ChosenPerson(point=(5, 5))}, ["PERSON_NOT_FOUND"], ["nobody was at the chosen"]),
        ([1] * 8, {"person": ChosenPerson(time_s=9, point=(5, 5))}, ["PERSON_NOT_FOUND"], ["the last frame"]),
        ([1, 0, 0, 0], {"include_predicted": False}, [], []),
        (
            [],
            {"person": ChosenPerson(point=(5, 5))},
            ["NO_PEOPLE", "PERSON_NOT_FOUND"],
            ["in the video", "at"],
        ),
        ([2, 2, 2], {}, ["NO_PEOPLE"], ["5 frames in a row .* sightings: 3"]),
        (
            [2, 2],
            {"person": ChosenPerson(point=(5, 5))},
            ["NO_PEOPLE", "PERSON_NOT_FOUND"],
            ["sightings: 2", ""],
        ),
    ],
    ids=["empty", "people", "elsewhere", "too late", "lost", "empty, chosen", "brief", "brief, chosen"],
)
def test_warnings_about_people_do_not_contradict_each_other(tmp_path, frames, options, codes, words):
    """NO_PEOPLE is about the whole video, PERSON_NOT_FOUND about one place; brief sightings are told apart.

    In `frames`, 1 is a frame with an identity, 0 one in which it is lost, 2 one whose person was measured and
    never became an identity.
    """
    person = make_person()
    made = {1: (tracked(1, person),), 0: (predicted(1, person),), 2: ()}
    video = [make_frame(i, *made[kind], num_detected=int(kind > 0)) for i, kind in enumerate(frames)]

    _, written = written_lines(tmp_path, video or [make_frame(0)], **options)

    assert [warning.code for warning in written.warnings] == codes
    for warning, word in zip(written.warnings, words, strict=True):
        assert re.search(word, warning.message)
