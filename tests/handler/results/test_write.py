"""Frames reach the disk whole, in order, and in constant memory."""

import json
import re
import tracemalloc
from dataclasses import replace

import pytest

from handler.job import ChosenPerson, Options
from handler.results.write import Written, read_lines, write, write_document
from tests.fakes import FakeBody
from tests.handler.results.factories import make_frame, make_info, make_person, predicted, tracked, walk


def write_all(into, frames, **options) -> Written:
    """What `write` gives."""
    return write(frames, options=Options(**options), body=FakeBody(), into=into)


def written_lines(into, frames, **options) -> tuple[list[dict], Written]:
    """The parsed lines of the file, and what `write` gave."""
    written = write_all(into, frames, **options)
    return [json.loads(line) for line in read_lines(written.frames_path)], written


def ids_in(lines) -> set[int]:
    """Everybody in the lines."""
    return {person["track_id"] for line in lines for person in line["people"]}


def test_same_frames_give_the_same_bytes(tmp_path):
    """The file depends on nothing but the frames: no clock, no name."""
    (tmp_path / "other").mkdir()

    one, other = (write_all(into, walk(20)).frames_path for into in (tmp_path, tmp_path / "other"))

    assert one.read_bytes() == other.read_bytes()
    assert one.read_bytes()[3:8] == bytes(5)  # no flag for a name, no time


def test_gap_is_never_written(tmp_path):
    """A missing frame is a bug upstream and ends the job."""
    with pytest.raises(RuntimeError, match="frame 1 is missing"):
        write_all(tmp_path, [make_frame(0), make_frame(2)])


def test_lost_people_are_left_out_if_not_wanted(tmp_path):
    """`include_predicted` off keeps measured people only."""
    with_lost, _ = written_lines(tmp_path, walk(8, lose_every=4))
    without, written = written_lines(tmp_path, walk(8, lose_every=4), include_predicted=False)

    assert [person["state"] for person in with_lost[3]["people"]] == ["predicted", "tracked"]
    assert [len(line["people"]) for line in without] == [2, 2, 2, 1, 2, 2, 2, 1]
    assert written.quality.person_frames_predicted == 0


@pytest.mark.parametrize("num_frames", [0, 1, 4])
def test_document_holds_the_same_frames(tmp_path, num_frames):
    """`frames.json` is one JSON document with the very lines, and says what they mean."""
    lines, written = written_lines(tmp_path, walk(num_frames))

    path = write_document(written, options=Options(), job_id="j-1", into=tmp_path)

    document = json.loads(path.read_bytes())
    assert document["frames"] == lines
    assert document["schema"] == "hmr2-phalp/frames/1.0"
    assert document["conventions"]["shapes"]["joints_3d"] == [24, 3]
    assert document["camera"]["source"] == "assumed"


def test_known_camera_is_named(tmp_path):
    """The camera in the summary is the caller's, and says so."""
    camera = write_all(tmp_path, walk(1), camera={"fx": 900}).camera

    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (900, 900, 320, 240)
    assert (camera.model, camera.source, camera.metric_depth) == ("pinhole", "user", False)


@pytest.mark.usefixtures("unchecked_types")
def test_memory_does_not_grow_with_the_video(tmp_path):
    """Five times the frames take the same memory, once the buffers are full."""
    some = list(walk(50, lose_every=5))

    def peak(num_frames: int) -> int:
        tracemalloc.start()
        write_all(tmp_path, (replace(some[i % 50], info=make_info(i)) for i in range(num_frames)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)

    assert peak(500) < peak(100) * 1.05


# One chosen person


def test_chosen_point_keeps_one_identity_everywhere(tmp_path):
    """Who stands at the point at that time is kept before and after it, all others go."""
    point = (100 + 60 + 30, 210)  # person 2 in frame 30

    lines, written = written_lines(tmp_path, walk(60, num_people=3), person={"time_s": 1.0, "point": point})

    assert ids_in(lines) == {2}
    assert [len(line["people"]) for line in lines] == [1] * 60
    assert (written.quality.id_births, written.warnings) == (1, ())
    assert not (tmp_path / "waiting.pickle").exists()


def test_chosen_box_keeps_who_overlaps_most(tmp_path):
    """Of overlapping people the one whose box fits best."""
    box = (100 + 120 - 40, 220 - 90, 100 + 120 + 45, 220 + 90)  # person 3 in frame 0, a little off

    lines, _ = written_lines(tmp_path, walk(5, num_people=4), person={"box": box})

    assert ids_in(lines) == {3}


def test_chosen_person_must_be_there_in_time(tmp_path):
    """Who comes to the point more than a second late is not the one."""
    point = (100 + 45 + 40, 200)  # the right edge of person 1 in frame 45

    lines, written = written_lines(tmp_path, walk(60, num_people=1), person={"point": point})

    assert ids_in(lines) == set()
    assert [warning.code for warning in written.warnings] == ["PERSON_NOT_FOUND"]


ELSEWHERE = {"person": ChosenPerson(point=(5, 5))}
LATER = {"person": ChosenPerson(time_s=9, point=(5, 5))}
EMPTY, BRIEF = "nobody was found in the video", "5 frames in a row .* sightings: "


@pytest.mark.parametrize(
    ("frames", "options", "warnings"),
    [
        ("", {}, {"NO_PEOPLE": EMPTY}),
        ("11111111", {}, {}),
        ("1" * 60, ELSEWHERE, {"PERSON_NOT_FOUND": "nobody was at the chosen place within 1 s"}),
        ("11111111", LATER, {"PERSON_NOT_FOUND": "the last frame comes before the chosen time, 9 s"}),
        ("1000", {"include_predicted": False}, {}),
        ("", ELSEWHERE, {"NO_PEOPLE": EMPTY, "PERSON_NOT_FOUND": "at the chosen place"}),
        ("222", {}, {"NO_PEOPLE": f"{BRIEF}3"}),
        ("22", ELSEWHERE, {"NO_PEOPLE": f"{BRIEF}2", "PERSON_NOT_FOUND": ""}),
    ],
    ids=["empty", "people", "elsewhere", "too late", "lost", "empty, chosen", "brief", "brief, chosen"],
)
def test_warnings_about_people_do_not_contradict_each_other(tmp_path, frames, options, warnings):
    """NO_PEOPLE is about the whole video, PERSON_NOT_FOUND about one place; brief sightings are told apart.

    In `frames`, 1 is a frame with an identity, 0 one in which it is lost, 2 one whose person was measured and
    never became an identity.
    """
    person = make_person()
    made = {"1": (tracked(1, person),), "0": (predicted(1, person),), "2": ()}
    video = [make_frame(i, *made[kind], num_detected=int(kind != "0")) for i, kind in enumerate(frames)]
    video = video or [make_frame(0)]

    lines, written = written_lines(tmp_path, video, **options)

    assert len(lines) == len(video)
    assert bool(ids_in(lines)) == ("1" in frames and "person" not in options)
    found = {warning.code: warning.message for warning in written.warnings}
    assert list(found) == list(warnings)
    assert all(re.search(words, found[code]) for code, words in warnings.items())
