"""Of several picture streams, the one that players show is used."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from handler.source.probe import probe
from tests.handler.source.decoding import LIMITS, frames_of, numbers
from tests.video_factory import draw_frame

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
