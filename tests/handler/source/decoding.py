"""Decode a made clip and read what its frames say."""

import itertools
from collections.abc import Callable
from pathlib import Path

import av

from handler.records import Frame
from handler.settings import IntakeSettings
from handler.source.decode import DecodeReport, decode
from handler.source.probe import probe
from tests.video_factory import read_index

LIMITS = IntakeSettings()
# Encoders that store pictures out of order.
X264 = {"preset": "fast", "crf": "18", "x264-params": "threads=1:bframes=3:open-gop=0"}
X264_OPEN = {"preset": "fast", "crf": "18", "x264-params": "threads=1:bframes=3:open-gop=1:b-adapt=0"}
X265_PARAMS = "log-level=none:pools=1:frame-threads=1:bframes=3:b-adapt=0"
X265 = {"preset": "ultrafast", "crf": "18", "x265-params": X265_PARAMS}


def frames_of(path: Path, settings: IntakeSettings = LIMITS, **more) -> tuple[list[Frame], DecodeReport]:
    """All frames and the report."""
    report = DecodeReport()
    frames = list(decode(probe(path, settings), settings, report=report, **more))
    assert report.num_kept == len(frames)
    seconds = seconds_of(frames)
    assert all(later > earlier for earlier, later in itertools.pairwise(seconds))
    assert [frame.info.frame_index for frame in frames] == list(range(len(frames)))
    return frames, report


def copy_packets(path: Path, source: Path, change: Callable[[av.Packet], None]) -> Path:
    """A copy of a video whose packets were changed on the way."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as container:
        stream = whole.streams.video[0]
        copy = container.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.size:
                change(packet)
                packet.stream = copy
                container.mux(packet)
    return path


def overwrite(path: Path, number: int, change: Callable[[bytes], bytes]) -> Path:
    """Change the bytes of one packet, not their number, in place."""
    with av.open(str(path)) as container:
        old = bytes([packet for packet in container.demux(video=0) if packet.size][number])
    data = path.read_bytes()
    at = data.rindex(old)
    path.write_bytes(data[:at] + change(old) + data[at + len(old) :])
    return path


def seconds_of(frames: list[Frame]) -> list[float]:
    """Seconds of the frames."""
    return [frame.info.pts_seconds for frame in frames]


def numbers(frames: list[Frame]) -> list[int]:
    """The numbers drawn into the frames; fails if one is not upright."""
    return [read_index(frame.image_bgr) for frame in frames]


def codes(report: DecodeReport) -> list[str]:
    """The codes of the warnings."""
    return [warning.code for warning in report.warnings]
