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


def seconds_of(frames: list[Frame]) -> list[float]:
    """Seconds of the frames."""
    return [frame.info.pts_seconds for frame in frames]


def numbers(frames: list[Frame]) -> list[int]:
    """The numbers drawn into the frames; fails if one is not upright."""
    return [read_index(frame.image_bgr) for frame in frames]


def codes(report: DecodeReport) -> list[str]:
    """The codes of the warnings."""
    return [warning.code for warning in report.warnings]
