"""Frames come in order, upright, at their exact times, whatever the file; damage is counted, never hidden."""

import gc
import itertools
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.errors import InputError, SourceError
from handler.settings import IntakeSettings
from handler.source.decode import decode, frames_ahead
from handler.source.packets import ReadTally, StartPoint, read_pictures
from handler.source.probe import probe
from handler.source.seek import find_start
from handler.source.timestamps import TimestampRepair
from tests.handler.results.factories import make_facts
from tests.handler.source.decoding import LIMITS, codes, frames_of, numbers, seconds_of
from tests.video_factory import cut_without_encoding, damage, join, make_video, read_index


@pytest.mark.parametrize(
    "more",
    [
        {"name": "a.mp4"},
        {"name": "a.mov", "fps": Fraction(30_000, 1001)},
        {"name": "a.mkv"},
        {"name": "a.ts"},
        {"name": "a.mp4", "audio": True},
        {"name": "a.mp4", "codec": "libx265"},
        {"name": "a.webm", "codec": "libvpx-vp9"},
        {"name": "a.webm", "codec": "libvpx"},
        {"name": "a.mp4", "codec": "libsvtav1"},
        {"name": "a.avi", "codec": "mpeg4"},
        {"name": "a.avi", "codec": "mjpeg", "pixel_format": "yuvj420p"},
        {"name": "a.mov", "codec": "prores_ks", "pixel_format": "yuv422p10le"},
        {"name": "a.avi", "codec": "rawvideo", "pixel_format": "bgr24"},
        {"name": "a.mp4", "pixel_format": "yuv420p10le"},
        {"name": "a.mp4", "codec": "libx265", "pixel_format": "yuv420p10le", "transfer": 16},
        {"name": "a.mp4", "pixel_format": "gray"},
        {"name": "a.mp4", "pixel_format": "yuv444p", "size": (131, 97)},
        {"name": "a.webm", "codec": "libvpx-vp9", "size": (131, 97)},
        {"name": "a.avi", "codec": "mjpeg", "pixel_format": "yuvj420p", "size": (131, 97)},
        {"name": "a.mkv", "codec": "ffv1", "size": (131, 97)},
    ],
    ids=lambda more: " ".join(str(value) for value in more.values()),
)
def test_decode_gives_every_frame(tmp_path, more):
    """Every frame of every container, codec and depth comes once, in order, at its time, with every pixel."""
    path = make_video(tmp_path / more.pop("name"), num_frames=20, **more)
    rate = more.get("fps", 30)

    frames, report = frames_of(path)

    assert numbers(frames) == list(range(20))
    assert [frame.info.source_index for frame in frames] == list(range(20))
    assert seconds_of(frames) == pytest.approx([n / rate for n in range(20)], abs=6e-4)
    width, height = more.get("size", (128, 96))
    assert (frames[0].image_bgr.shape, frames[0].image_bgr.dtype) == ((height, width, 3), np.uint8)
    assert (report.num_decoded, report.num_corrupt, report.reached_end) == (20, 0, True)
    assert codes(report) == []


@pytest.mark.parametrize("mirrored", [False, True], ids=["", "mirrored"])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_decode_turns_frames_upright(tmp_path, rotation, mirrored):
    """Rotated and mirrored recordings come out as a player shows them."""
    path = make_video(tmp_path / "a.mp4", num_frames=3, size=(160, 96), rotation=rotation, mirrored=mirrored)

    frames, _ = frames_of(path)
    facts = probe(path, LIMITS)

    assert numbers(frames) == [0, 1, 2]
    assert {frame.image_bgr.shape for frame in frames} == {(96, 160, 3)}
    assert (facts.width, facts.height) == (160, 96)
    assert mirrored or facts.rotation_degrees == rotation


def test_decode_keeps_a_variable_rate(tmp_path):
    """Times are the file's own, from its first frame on, not a count divided by a rate."""
    times = [0.0, 0.01, 0.2, 0.25, 1.75, 1.8, 3.0]
    path = make_video(tmp_path / "a.mp4", num_frames=len(times), times=times)

    frames, report = frames_of(path)

    assert seconds_of(frames) == pytest.approx(times, abs=1e-9)
    assert [frame.info.pts for frame in frames] == [round(time * 90_000) for time in times]
    assert codes(report) == []

    late, _ = frames_of(make_video(tmp_path / "a.mkv", num_frames=4, times=[5.0, 5.1, 5.2, 5.3]))
    assert seconds_of(late) == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-3)


def test_decode_honours_edit_lists(tmp_path):
    """Frames hidden by an edit list do not come, are not missed, and the rest counts from zero."""
    whole = make_video(tmp_path / "whole.mp4", num_frames=150, gop=15)
    path = cut_without_encoding(tmp_path / "cut.mp4", whole, 1.2)
    for start_s, hidden, most_decoded in ((0.0, 36, 114), (2.1, 99, 70)):  # at a key frame the second time
        frames, report = frames_of(path, start_s=start_s)

        assert numbers(frames) == list(range(hidden, 150))
        assert [frame.info.source_index for frame in frames] == list(range(hidden - 36, 114))
        assert frames[0].info.pts_seconds == pytest.approx(start_s)
        assert report.num_decoded <= most_decoded
        assert codes(report) == []
        assert report.reached_end


def test_decode_fits_a_changed_size_into_the_first(tmp_path):
    """After a change of size every frame has the first one's size, and time goes on."""
    first = make_video(tmp_path / "1.ts", num_frames=15)
    second = make_video(tmp_path / "2.ts", num_frames=15, size=(192, 144), first_index=15)
    third = make_video(tmp_path / "3.ts", num_frames=15, size=(96, 144), first_index=30)

    frames, report = frames_of(join(tmp_path / "all.ts", first, second, third))

    assert {frame.image_bgr.shape for frame in frames} == {(96, 128, 3)}
    assert numbers(frames[:30]) == list(range(30))
    narrow = frames[40].image_bgr
    assert narrow[:, :30].max() < 10  # black beside a picture of another shape
    assert read_index(narrow[:, 32:96]) == 40
    seconds = seconds_of(frames)
    np.testing.assert_allclose(np.diff(seconds), 1 / 30, atol=0.6 / 30)
    assert seconds[-1] == pytest.approx(44 / 30, abs=0.01)
    assert codes(report) == ["SIZE_CHANGED", "TIMESTAMPS_REPAIRED"]
    assert report.warnings[0].frame_index == 15


@pytest.mark.parametrize("seed", [1, 9])  # 9 brings frames out of order
def test_decode_marks_and_counts_damage_in_the_middle(tmp_path, seed):
    """Damaged frames are kept and marked, the rest is whole, and times after the damage are right."""
    whole = make_video(tmp_path / "a.mp4", num_frames=150, gop=15)
    frames, report = frames_of(damage(whole, start=0.4, end=0.5, num_bytes=40, seed=seed))

    assert "FRAMES_CORRUPT" in codes(report)
    assert report.num_corrupt == sum(frame.info.is_corrupt for frame in frames) > 0
    assert len(frames) > 120
    assert numbers(frames[:15]) == list(range(15))
    assert numbers(frames[-30:]) == list(range(120, 150))
    assert seconds_of(frames[-30:]) == pytest.approx([n / 30 for n in range(120, 150)])


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"stride": 7}, range(0, 60, 7)),
        ({"start_s": 0.1}, range(3, 60)),
        ({"end_s": 0.1}, range(3)),
        ({"start_s": 0.5, "end_s": 1.0, "stride": 4}, range(15, 30, 4)),
        ({"start_s": 0.0333335, "end_s": 0.066667}, [1]),  # rounded by hand
        ({"start_s": 1.99}, []),
        ({"end_s": 100.0, "stride": 59}, [0, 59]),
    ],
    ids=str,
)
def test_decode_takes_the_part_that_is_asked_for(tmp_path, part, expected):
    """The first frame at or after start_s comes, the first at or after end_s does not."""
    path = make_video(tmp_path / "a.mp4", num_frames=60)
    if not list(expected):
        with pytest.raises(SourceError, match="VIDEO_HAS_NO_FRAMES"):
            frames_of(path, **part)
        return

    frames, report = frames_of(path, **part)

    assert numbers(frames) == list(expected)
    assert [frame.info.source_index for frame in frames] == list(expected)
    assert seconds_of(frames) == pytest.approx([n / 30 for n in expected])
    assert report.reached_end
    assert report.num_decoded <= 30 * part.get("end_s", 100) + 2  # nothing behind the part


@pytest.mark.parametrize("changes", [{"max_frames": 10}, {"max_duration_seconds": 0.5}])
def test_decode_counts_instead_of_believing_the_header(tmp_path, changes):
    """Limits on length hold while decoding, whatever the header said."""
    path = make_video(tmp_path / "a.mp4", num_frames=30)
    facts = probe(path, LIMITS)
    frames = decode(facts, IntakeSettings(**changes))
    seen = []

    with pytest.raises(InputError, match="VIDEO_TOO_LONG"):
        seen.extend(frames)
    assert 8 <= len(seen) <= 16


def test_decode_refuses_a_change_to_too_large_frames(tmp_path):
    """A video that grows beyond the limit in the middle is refused."""
    first = make_video(tmp_path / "1.ts", num_frames=15)
    second = make_video(tmp_path / "2.ts", num_frames=15, size=(160, 128))
    path = join(tmp_path / "all.ts", first, second)

    with pytest.raises(InputError, match="VIDEO_TOO_LARGE"):
        frames_of(path, IntakeSettings(max_pixels=128 * 96))


def test_decode_releases_the_file_when_closed(tmp_path):
    """Closing the iterator closes the file before it returns."""
    path = make_video(tmp_path / "a.mp4", num_frames=120)
    frames = decode(probe(path, LIMITS), LIMITS)
    next(frames)

    frames.close()

    gc.collect()
    opened = {link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()}
    assert path not in opened


@pytest.mark.parametrize(("width", "most", "expected"), [(1920, 16, 16), (16_000, 16, 1), (8_000, 16, 4)])
def test_large_frames_that_wait_are_few(width, most, expected):
    """As many as allowed, unless they would take more than 512 MiB; always one."""
    facts = make_facts(width=width, height=width * 9 // 16)

    assert frames_ahead(facts, most) == expected


def test_making_an_av1_clip_leaves_the_tests_priority_alone(tmp_path):
    """SVT-AV1 would make the test process real-time, and every server it starts afterwards."""
    before = os.sched_getscheduler(0)

    make_video(tmp_path / "a.mp4", num_frames=3, codec="libsvtav1")

    assert os.sched_getscheduler(0) == before


ALT_REF = {"deadline": "good", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "8"}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"variable_rate": True}),
        ("a.mp4", {"rotation": 90, "fps": Fraction(30_000, 1001)}),
        ("a.mp4", {"options": {"preset": "fast", "x264-params": "open-gop=1:bframes=3:threads=1"}}),
        ("a.mkv", {"codec": "libx265", "options": {"x265-params": "open-gop=1:bframes=3:log-level=none"}}),
        ("a.mkv", {"b_frames": 0}),
        ("a.webm", {"codec": "libvpx-vp9", "options": ALT_REF}),
    ],
    ids=["mp4", "variable rate", "rotated", "open gop", "hevc open gop", "mkv", "vp9 hidden frames"],
)
def test_decode_from_a_key_frame_equals_decoding_everything(tmp_path, name, more):
    """A late start decodes less and gives the very same frames: numbers, times and pixels."""
    path = make_video(tmp_path / name, num_frames=140, gop=20, **more)

    whole, whole_report = frames_of(path)
    for start_s in (2.001, 2.667, 3.9):
        part, report = frames_of(path, start_s=start_s)

        expected = [frame for frame in whole if frame.info.pts_seconds >= start_s - 1e-6]
        assert report.num_decoded < whole_report.num_decoded - 20
        assert len(part) == len(expected)
        for one, other in zip(part, expected, strict=True):
            assert (one.info.source_index, one.info.pts) == (other.info.source_index, other.info.pts)
            assert one.info.pts_seconds == other.info.pts_seconds
            np.testing.assert_array_equal(one.image_bgr, other.image_bgr)


def test_find_start_takes_no_shortcut_where_it_is_not_sure(tmp_path):
    """Transport streams, hidden-frame codecs and early starts are decoded from the beginning."""

    def shortcut(name: str, start_s: float = 2.1, **more) -> StartPoint | None:
        path = make_video(tmp_path / name, num_frames=70, gop=15, **more)
        return find_start(probe(path, LIMITS), start_s, LIMITS, lambda: None)

    assert shortcut("a.mp4") is not None
    assert shortcut("a.mp4", start_s=1.0) is None
    assert shortcut("a.ts") is None
    assert shortcut("a.webm", codec="libvpx") is None
    assert shortcut("b.mp4", start_s=100.0) is not None  # beyond the end: the last key frame


def test_read_pictures_falls_back_when_the_key_frame_does_not_come(tmp_path):
    """A start point that proves wrong costs time, not frames."""
    path = make_video(tmp_path / "a.mp4", num_frames=30, gop=10)
    wrong = StartPoint(packet_index=10, source_index=99, pts=7)

    read = list(read_pictures(probe(path, LIMITS), LIMITS, lambda: None, ReadTally(), wrong))

    assert [source_index for source_index, _ in read] == list(range(30))


@pytest.mark.parametrize("may_restart", [True, False])
@pytest.mark.parametrize(
    ("pts", "fps", "places"),
    [
        ([7000, 7001, 10_003, 9_000_000], 1.0, [0, 1, 3003, 8_993_000]),  # whatever the header's rate
        ([5, None, None, 8], 30.0, [0, 1, 2, 3]),  # a missing one is a step after the last
        ([0, 1, 2, 9, 3, 10, 11], 30.0, [0, 1, 2, 9, None, 10, 11]),  # one out of place moves no other
    ],
    ids=["good", "missing", "out of place"],
)
def test_timeline_keeps_good_timestamps_exactly(pts, fps, places, may_restart):
    """Growing timestamps pass unchanged, counted from the first; any other lies between its neighbours."""
    timeline = TimestampRepair(Fraction(1, 30), fps, may_restart=may_restart)
    placed = [timeline.place(value) for value in pts]

    assert placed == sorted(set(placed), key=lambda one: one[1])
    expected = [None if place is None else (pts[0] + place, place / 30) for place in places]
    assert [one if place else place for one, place in zip(placed, expected, strict=True)] == expected
    assert (timeline.num_repaired == 0) == (None not in (*pts, *places))


@pytest.mark.parametrize(
    ("pts", "may_restart", "last"),
    [([0, 9, 3, 4, 5, 10], False, 10), ([*range(100, 120), *range(100, 120)], True, 39)],
    ids=["any number out of place in an indexed file", "stretches that are joined"],
)
def test_timeline_finds_back(pts, may_restart, last):
    """Behind stragglers the times are a file's own; where time may begin anew, no gap is left."""
    timeline = TimestampRepair(Fraction(1, 30), 30.0, may_restart=may_restart)
    placed = [timeline.place(value)[1] for value in pts]

    assert placed == sorted(set(placed))
    assert placed[-1] == pytest.approx(last / 30)


@given(
    st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=60),
    st.sampled_from([Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1, 1000)]),
    st.booleans(),
)
def test_timeline_always_grows(pts, time_base, may_restart):
    """Whatever the timestamps, times strictly grow and begin at zero."""
    timeline = TimestampRepair(time_base, None, may_restart=may_restart)
    placed = [timeline.place(value)[1] for value in pts]

    assert all(later > earlier for earlier, later in itertools.pairwise(placed))
    assert placed[:1] in ([], [0.0])
