"""Which stream of a file is used, what is found of it, and which files are refused before any work."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from handler.errors import InputError, JobError, SourceError
from handler.settings import IntakeSettings
from handler.source.probe import check_part, probe
from handler.source.truncation import is_cut_off
from tests.handler.source.decoding import LIMITS, frames_of, numbers
from tests.video_factory import draw_frame, make_audio, make_still, make_video


def refused(path, settings=LIMITS) -> JobError:
    """The error of a file that must be refused; it names no path."""
    with pytest.raises((InputError, SourceError)) as caught:
        probe(path, settings)
    assert str(path.parent) not in str(caught.value)
    assert path.name not in str(caught.value)
    return caught.value


def test_probe_tells_the_facts(tmp_path):
    """Container, codec, size, rate, length and hash are those of the file."""
    path = make_video(
        tmp_path / "clip.mp4", num_frames=45, fps=Fraction(30_000, 1001), size=(160, 96), audio=True
    )

    facts = probe(path, LIMITS)

    assert (facts.codec, facts.width, facts.height, facts.rotation_degrees) == ("h264", 160, 96, 0)
    assert "mp4" in facts.container
    assert facts.average_fps == pytest.approx(29.97, abs=0.01)
    assert facts.num_frames_estimate == 45
    assert facts.duration_seconds == pytest.approx(1.5, abs=0.01)
    assert facts.size_bytes == path.stat().st_size
    assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not facts.is_hdr
    assert facts.warnings == ()
    assert probe(path, LIMITS, sha256="known").sha256 == "known"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello world\n" * 50, "text"),
        ("grüße\n".encode() * 2000, "text"),
        (b"<html><body>Sign in</body></html>", "web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
        (b'{"message": "forbidden"}', "JSON"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nclip.mp4\n", "playlist"),
        (b"ffconcat version 1.0\nfile 'clip.mp4'\n", "playlist"),
        (b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\n", "playlist"),
        (b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>', "playlist"),
        (b"\x00\x00\x00\x1cftypheic" + bytes(40), "still image"),
        (b"ID3\x04" + bytes(4000), "MP3"),
        (b"PK\x03\x04" + bytes(100), "ZIP"),
        (bytes(5000), "MP4, MOV"),
        (bytes(range(256)) * 40, "MP4, MOV"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_probe_says_what_the_file_is_instead(tmp_path, content, words):
    """Files that are no video are refused in words that help, whatever their name says."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)

    error = refused(path)

    assert error.code == "VIDEO_UNREADABLE"
    assert words in error.message


@pytest.mark.parametrize(
    "template",
    [
        "ffconcat version 1.0\nfile '{clip}'\n",
        "# a comment\nffconcat version 1.0\nfile '{clip}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["ffconcat", "comment", "hls", "sdp"],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.ffconcat", "clip.m3u8", "clip.sdp"])
def test_probe_never_opens_another_file(tmp_path, monkeypatch, template, name):
    """A disguised playlist is stopped by the format list alone, even if nobody looks at its first bytes."""
    other = make_video(tmp_path / "other.mp4", num_frames=2)
    path = tmp_path / name
    path.write_text(template.format(clip=other))
    monkeypatch.setattr("handler.source.container.what_else", lambda path: None)

    assert refused(path).code == "VIDEO_UNREADABLE"


def test_probe_takes_no_protocol_from_a_file_name(tmp_path, monkeypatch):
    """A file named like an FFmpeg protocol is a file."""
    make_video(tmp_path / "clip.mp4", num_frames=2)
    monkeypatch.chdir(tmp_path)
    odd = (tmp_path / "clip.mp4").rename(tmp_path / "concat:a|b")

    assert probe(odd.relative_to(tmp_path), LIMITS).width == 128


def without_pictures(path: Path) -> Path:
    """A video whose pictures are all zeros."""
    data = make_video(path, num_frames=30).read_bytes()
    at = data.index(b"mdat") + 4
    path.write_bytes(data[:at] + bytes(len(data) - at))
    return path


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (make_audio, "VIDEO_HAS_NO_FRAMES", "only sound"),
        (lambda path: make_audio(path, cover=True), "VIDEO_HAS_NO_FRAMES", "only a still picture"),
        (without_pictures, "VIDEO_HAS_NO_FRAMES", "no frame of the video can be decoded"),
        (lambda path: make_still(path.with_suffix(".png")), "VIDEO_UNREADABLE", "PNG image"),
        (lambda path: make_still(path.with_suffix(".jpg")), "VIDEO_UNREADABLE", "JPEG image"),
        (lambda path: make_still(path.with_suffix(".webp")), "VIDEO_UNREADABLE", "WebP image"),
        (lambda path: make_video(path, truncated=0.5, faststart=False), "VIDEO_UNREADABLE", "cut off"),
        (lambda path: make_video(path, codec="png", pixel_format="rgb24"), "VIDEO_UNREADABLE", "(png)"),
    ],
    ids=["sound", "cover art", "zeros", "png", "jpg", "webp", "cut before its index", "codec off the list"],
)
def test_probe_refuses_files_without_a_video_it_can_decode(tmp_path, make, code, words):
    """Whatever their name says, and with the reason."""
    error = refused(make(tmp_path / "clip.mp4").rename(tmp_path / "named.mp4"))

    assert error.code == code
    assert words in error.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_pixels": 128 * 96 - 1}, "128 x 96"),
        ({"max_streams": 1}, "streams"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_probe_enforces_limits(tmp_path, changes, words):
    """Frame size, rate and number of streams are limited, with the limit in the message."""
    path = make_video(tmp_path / "clip.mp4", num_frames=3, audio=True)
    exact = IntakeSettings(max_pixels=128 * 96, max_fps=30, max_streams=2)
    assert probe(path, exact).width == 128

    error = refused(path, exact.model_copy(update=changes))

    assert error.code == "VIDEO_TOO_LARGE"
    assert words in error.message


def test_probe_does_not_believe_a_small_size_in_the_header(tmp_path):
    """Frames larger than the header says are refused by the decoder's own limit."""
    path = make_video(tmp_path / "clip.mp4", num_frames=3, size=(640, 480), codec="mpeg4")
    data = path.read_bytes()
    at = data.index(b"mp4v", data.index(b"stsd")) + 28
    assert data[at : at + 4] == (640).to_bytes(2, "big") + (480).to_bytes(2, "big")
    path.write_bytes(data[:at] + (16).to_bytes(2, "big") + (16).to_bytes(2, "big") + data[at + 4 :])

    assert refused(path, IntakeSettings(max_pixels=20_000)).code in ("VIDEO_TOO_LARGE", "VIDEO_HAS_NO_FRAMES")


def test_check_part_refuses_by_the_header(tmp_path):
    """A part that is too long or not there is refused before decoding; a trim makes a long video short."""
    facts = probe(make_video(tmp_path / "clip.mp4", num_frames=90), LIMITS)
    short = IntakeSettings(max_duration_seconds=1.0)

    with pytest.raises(InputError, match="VIDEO_TOO_LONG"):
        check_part(facts, short, start_s=0, end_s=None)
    with pytest.raises(InputError, match="VIDEO_TOO_LONG"):
        check_part(facts, short, start_s=0.5, end_s=100)
    with pytest.raises(SourceError, match=r"VIDEO_HAS_NO_FRAMES.*3\.00 s"):
        check_part(facts, LIMITS, start_s=3.0, end_s=None)
    check_part(facts, short, start_s=2.5, end_s=None)
    check_part(facts, short, start_s=0, end_s=0.9)
    check_part(facts, LIMITS, start_s=0, end_s=None)


def test_is_cut_off_reads_the_boxes_of_an_mp4(tmp_path):
    """A whole MP4 is not cut off at any of its ends, a shortened one is."""
    path = make_video(tmp_path / "clip.mp4", num_frames=5)
    data = path.read_bytes()
    huge = (1).to_bytes(4, "big") + b"mdat" + (2**40).to_bytes(8, "big")
    for content, is_cut in ((data, False), (data[:-1], True), (data + b"junk", False), (huge, True)):
        path.write_bytes(content)
        assert is_cut_off(path) is is_cut


SIZE = (64, 48)
STREAM_CODECS = {"mjpeg": "yuvj420p", "png": "rgb24", "libx264": "yuv420p", "mpeg4": "yuv420p"}


def make_streams(path: Path, *streams: tuple[str, int, int], default: int | None = None) -> Path:
    """A file of several streams of (codec, first number drawn, frames), side by side in time."""
    with av.open(str(path), "w") as container:
        made = []
        for codec, _, _ in streams:
            stream = container.add_stream(codec, rate=30)
            stream.width, stream.height, stream.pix_fmt = *SIZE, STREAM_CODECS[codec]
            if default is not None:
                stream.disposition = Disposition.default if len(made) == default else Disposition(0)
            made.append(stream)
        for index in range(max(num_frames for _, _, num_frames in streams)):
            for stream, (_, first, num_frames) in zip(made, streams, strict=True):
                if index < num_frames:
                    frame = av.VideoFrame.from_ndarray(np.array(draw_frame(first + index, SIZE)), "bgr24")
                    frame = frame.reformat(format=stream.pix_fmt)
                    frame.pts = index
                    container.mux(stream.encode(frame))
        for stream in made:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("default", [None, 0, 1])
@pytest.mark.parametrize(
    ("name", "cover"),
    [
        ("a.mkv", "mjpeg"),
        ("a.mp4", "mjpeg"),
        ("a.mp4", "png"),
        ("a.mov", "libx264"),
        ("a.avi", "mjpeg"),
    ],
)
def test_a_cover_is_no_video_wherever_it_is_stored(tmp_path, name, cover, default):
    """A stream of one picture before the video is passed over, marked as default or not."""
    video = "mpeg4" if name == "a.avi" else "libx264"
    path = make_streams(tmp_path / name, (cover, 1000, 1), (video, 0, 20), default=default)

    facts = probe(path, LIMITS)

    assert facts.warnings == ()
    assert numbers(frames_of(path)[0]) == list(range(20))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize("default", [0, 1])
def test_the_default_stream_is_used(tmp_path, name, default):
    """Of two videos the one marked as default is used, and the warning says which."""
    path = make_streams(tmp_path / name, ("libx264", 0, 20), ("libx264", 100, 20), default=default)

    facts = probe(path, LIMITS)

    assert [warning.code for warning in facts.warnings] == ["MORE_VIDEO_STREAMS"]
    assert f"2 video streams; stream {default} is used" in facts.warnings[0].message
    assert numbers(frames_of(path)[0]) == list(range(100 * default, 100 * default + 20))


@pytest.mark.parametrize(
    ("streams", "shown"),
    [
        ([("png", 0, 20), ("libx264", 100, 20)], range(100, 120)),  # PNG is off the list
        ([("mjpeg", 7, 1)], [7]),  # nothing is passed over if nothing else is there
        ([("mjpeg", 1000, 1), ("libx264", 0, 2)], [0, 1]),  # two frames are more than one
    ],
    ids=["a codec that can be read", "a cover alone", "a short video"],
)
def test_what_can_be_shown_is_preferred(tmp_path, streams, shown):
    """A default stream does not hide one that can be read, nor a cover a video, however short."""
    frames, report = frames_of(make_streams(tmp_path / "a.mov", *streams, default=0))

    assert numbers(frames) == list(shown)
    assert report.reached_end
