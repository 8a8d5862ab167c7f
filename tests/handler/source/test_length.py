"""Lengths are counted where a header only estimates them; what is estimated refuses nothing."""

from fractions import Fraction
from pathlib import Path

import av
import pytest

from handler.errors import ErrorCode, InputError, SourceError
from handler.settings import IntakeSettings
from handler.source.probe import check_part, probe
from tests.handler.source.decoding import LIMITS, codes, copy_packets, frames_of, numbers, seconds_of
from tests.video_factory import join, make_video


def later(path: Path, source: Path, seconds: float) -> Path:
    """A copy of a transport stream whose clock is ahead."""

    def change(packet: av.Packet) -> None:
        packet.pts += round(seconds / packet.time_base)
        packet.dts += round(seconds / packet.time_base)

    return copy_packets(path, source, change)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.ts"])
def test_sound_longer_than_the_picture_adds_no_frames(tmp_path, name):
    """Length and number of frames are the pictures', and none is called missing."""
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    path = make_video(tmp_path / name, num_frames=30, codec=codec, audio=3.0)

    facts = probe(path, LIMITS)
    frames, report = frames_of(path)

    assert facts.duration_seconds == pytest.approx(1.0, abs=2e-3)
    assert (facts.num_frames_estimate, len(frames), codes(report), facts.warnings) == (30, 30, [], ())
    check_part(facts, IntakeSettings(max_duration_seconds=1.5), start_s=0, end_s=None)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_few_frames_in_a_long_time_are_not_called_missing(tmp_path, name):
    """A recording that only writes changes has as many frames as it has."""
    times = [0.0, 0.033, 0.067, 4.0, 4.033, 9.0]
    path = make_video(tmp_path / name, num_frames=len(times), times=times)

    facts = probe(path, LIMITS)
    frames, report = frames_of(path)

    assert facts.num_frames_estimate == len(frames) == len(times)
    assert seconds_of(frames) == pytest.approx(times, abs=1e-3)
    assert codes(report) == []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mkv", {"live": "1"}),
        ("a.webm", {"live": "1"}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    ],
)
def test_recordings_without_a_length_are_counted(tmp_path, name, options):
    """Live recordings and fragments have no total; it is known all the same."""
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    path = make_video(tmp_path / name, num_frames=45, codec=codec, container_options=options, faststart=False)

    facts = probe(path, LIMITS)

    assert facts.duration_seconds == pytest.approx(1.5, abs=2e-3)
    assert (facts.num_frames_estimate, facts.num_frames_announced) == (45, None)


@pytest.mark.parametrize("ahead", [0, 30_000, -100])
def test_joined_transport_streams_are_one_video(tmp_path, ahead):
    """The second part follows the first whatever its clock says, and a part of it can be had."""
    first = make_video(tmp_path / "1.ts", num_frames=60)
    whole = make_video(tmp_path / "whole.ts", num_frames=60, first_index=60)
    second = later(tmp_path / "2.ts", whole, ahead) if ahead > 0 else whole
    if ahead < 0:
        first = later(tmp_path / "late.ts", first, -ahead)
    path = join(tmp_path / "all.ts", first, second)

    facts = probe(path, LIMITS)
    check_part(facts, IntakeSettings(max_duration_seconds=5), start_s=3.0, end_s=None)
    frames, report = frames_of(path)

    assert facts.duration_seconds == pytest.approx(4.0, abs=0.05)
    assert facts.num_frames_estimate == 120
    assert numbers(frames) == list(range(120))
    assert seconds_of(frames) == pytest.approx([n / 30 for n in range(120)], abs=0.02)
    assert codes(report) == ["TIMESTAMPS_REPAIRED"]
    assert numbers(frames_of(path, start_s=3.0)[0])[-30:] == list(range(90, 120))


def test_a_part_behind_the_end_is_refused(tmp_path):
    """Before decoding where the end is known, after it in a transport stream."""
    facts = probe(make_video(tmp_path / "a.mkv", num_frames=30), LIMITS)
    with pytest.raises(SourceError, match="VIDEO_HAS_NO_FRAMES"):
        check_part(facts, LIMITS, start_s=1.5, end_s=None)
    path = make_video(tmp_path / "a.ts", num_frames=30)
    check_part(probe(path, LIMITS), LIMITS, start_s=1.5, end_s=None)
    with pytest.raises(SourceError, match="VIDEO_HAS_NO_FRAMES"):
        frames_of(path, start_s=1.5)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.avi", "a.mp4"])
def test_a_frame_rate_over_the_limit_is_refused(tmp_path, name):
    """The rate is that of the frames that are there."""
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = make_video(tmp_path / name, num_frames=60, fps=Fraction(60), codec=codec)

    assert probe(path, IntakeSettings(max_fps=60)).num_frames_estimate == 60
    with pytest.raises(InputError, match=r"VIDEO_TOO_LARGE.*60 frames per second"):
        probe(path, IntakeSettings(max_fps=59))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_counting_can_be_cancelled(tmp_path, name):
    """A long file whose hash is known does not hold up the end of a job either."""

    def stop() -> None:
        raise InputError(ErrorCode.VIDEO_TOO_LONG, "stopped by the test")

    with pytest.raises(InputError, match="stopped by the test"):
        probe(make_video(tmp_path / name, num_frames=10), LIMITS, sha256="known", check=stop)
