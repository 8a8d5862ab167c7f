"""Packets become decoded pictures; damage is counted and survived. Knows nothing of times or sizes."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import av
from av.video.stream import VideoStream

from handler.connections import Check
from handler.control import unstoppable
from handler.errors import SourceError
from handler.settings import IntakeSettings
from handler.source.container import open_video


@dataclass(slots=True)
class ReadTally:
    """What reading met so far.

    Attributes:
        num_damaged_packets: pieces of the file that could not be decoded.
        broke_off: reading stopped at damage before the end of the file.
    """

    num_damaged_packets: int = 0
    broke_off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPoint:
    """A key frame to begin at.

    Attributes:
        packet_index: packets of the stream before it.
        source_index: frames shown before it.
        pts: its time, ticks.
        origin: the first frame's time, ticks.
    """

    packet_index: int
    source_index: int
    pts: int
    origin: int


class _StartMissed(Exception):
    """The key frame to begin at did not come out of the decoder."""


def read_pictures(
    path: Path, settings: IntakeSettings, check: Check, tally: ReadTally, start: StartPoint | None = None
) -> Generator[tuple[int, av.VideoFrame]]:
    """(Source index, picture as stored) in the order in which they are shown. Closes the file at its end.

    Memory: the decoder's own frames, about one per core.

    Args:
        path: the video.
        settings: limits.
        check: called for every packet; what it raises comes out.
        tally: counted on the way.
        start: where to begin; if that turns out wrong, reading begins at the beginning.

    Raises:
        InputError, SourceError: as `open_video`.
    """
    try:
        yield from _read(path, settings, check, tally, start)
    except _StartMissed:
        yield from _read(path, settings, check, tally, None)


def first_picture(path: Path, settings: IntakeSettings, check: Check = unstoppable) -> av.VideoFrame:
    """The first picture shown; where much is damaged, it may be far into the file.

    Args:
        path: the video.
        settings: limits.
        check: called for every packet; what it raises comes out.

    Raises:
        SourceError: VIDEO_HAS_NO_FRAMES; and as `open_video`.
    """
    pictures = read_pictures(path, settings, check, ReadTally())
    for _, picture in pictures:
        pictures.close()
        return picture
    raise SourceError("VIDEO_HAS_NO_FRAMES", "no frame of the video can be decoded")


def _read(
    path: Path, settings: IntakeSettings, check: Check, tally: ReadTally, start: StartPoint | None
) -> Generator[tuple[int, av.VideoFrame]]:
    source_index = start.source_index if start else 0
    skip_packets = start.packet_index if start else 0
    awaited = start.pts if start else None
    with open_video(path, settings) as (container, stream):
        packets = container.demux(stream)
        position = 0
        while True:
            check()
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                tally.broke_off = True
                packet = None
            if packet is not None and position < skip_packets:
                position += 1
                continue
            for picture in _decoded(stream, packet, tally):
                if awaited is not None:
                    if picture.pts is not None and picture.pts < awaited:
                        continue  # shown before the key frame; its own key frame was skipped
                    if picture.pts != awaited:
                        raise _StartMissed
                    awaited = None
                yield source_index, picture
                del picture
                source_index += 1
            if packet is None:
                if awaited is not None:
                    raise _StartMissed
                return


def _decoded(
    stream: VideoStream, packet: "av.Packet[VideoStream] | None", tally: ReadTally
) -> list[av.VideoFrame]:
    """The pictures that a packet completes; without a packet, those the decoder still holds."""
    try:
        return stream.decode(packet)
    except EOFError:  # it was emptied before
        return []
    except av.FFmpegError:
        tally.num_damaged_packets += 1
        return []
