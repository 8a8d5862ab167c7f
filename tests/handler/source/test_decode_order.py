"""Files whose timestamps are those of decoding, although the pictures are shown in another order."""

from pathlib import Path

import av
import pytest

from tests.handler.source.decoding import (
    X264,
    X264_OPEN,
    X265,
    codes,
    copy_packets,
    frames_of,
    numbers,
    overwrite,
    seconds_of,
)
from tests.video_factory import make_video

NUM_FRAMES = 90


def with_decode_times(path: Path, source: Path) -> Path:
    """A copy in which every packet is shown when it is decoded: what copying from an AVI makes."""
    first: list[int] = []

    def change(packet: av.Packet) -> None:
        first.append(packet.dts)
        packet.pts = packet.dts = packet.dts - first[0]

    return copy_packets(path, source, change)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("a.avi", {"codec": "libx264", "options": X264}),
        ("a.avi", {"codec": "libx264", "options": X264_OPEN}),
        ("a.mp4", {"codec": "libx264", "options": X264}),
        ("a.mp4", {"codec": "libx264", "options": X264_OPEN, "fps": 25}),
        ("a.mp4", {"codec": "libx265", "options": X265}),
        ("a.mkv", {"codec": "libx264", "options": X264}),
    ],
    ids=["avi", "avi open gop", "mp4", "mp4 open gop", "mp4 hevc", "mkv"],
)
def test_frames_are_shown_evenly(tmp_path, name, more):
    """The k-th frame shown gets the k-th time of the file, and a warning says so."""
    if name == "a.avi":
        path = make_video(tmp_path / name, num_frames=NUM_FRAMES, gop=30, **more)
    else:
        path = with_decode_times(
            tmp_path / name, make_video(tmp_path / "whole.mp4", num_frames=NUM_FRAMES, gop=30, **more)
        )
    rate = more.get("fps", 30)

    frames, report = frames_of(path)

    assert numbers(frames) == list(range(NUM_FRAMES))
    assert seconds_of(frames) == pytest.approx(
        [n / rate for n in range(NUM_FRAMES)], abs=1e-9 if name != "a.mkv" else 6e-4
    )
    assert codes(report) == ["TIMESTAMPS_REPAIRED"]

    late, _ = frames_of(path, start_s=2.5)
    assert [(frame.info.source_index, frame.info.pts_seconds) for frame in late] == [
        (frame.info.source_index, frame.info.pts_seconds) for frame in frames if frame.info.pts_seconds >= 2.5
    ]


def test_a_lost_frame_does_not_move_the_frames_behind_the_next_key_frame(tmp_path):
    """Damage costs a frame, and times are right again from the next key frame on."""
    whole = make_video(tmp_path / "whole.mp4", num_frames=NUM_FRAMES, gop=30, options=X264)
    path = with_decode_times(tmp_path / "a.mp4", whole)
    overwrite(path, 40, lambda packet: b"\xff" * len(packet))

    frames, _ = frames_of(path)

    assert NUM_FRAMES - 3 <= len(frames) < NUM_FRAMES
    assert numbers(frames[-30:]) == list(range(60, 90))
    assert seconds_of(frames[-30:]) == pytest.approx([n / 30 for n in range(60, 90)])
