"""A late start decodes less and changes nothing."""

from fractions import Fraction

import numpy as np
import pytest

from handler.source.packets import ReadTally, StartPoint, read_pictures
from handler.source.probe import probe
from handler.source.seek import find_start
from tests.handler.source.decoding import LIMITS, frames_of
from tests.video_factory import make_video

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
