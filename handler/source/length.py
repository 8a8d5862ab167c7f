"""How long a video is and how many frames it has: read from an index that can be trusted, or counted.

- The sample table of a complete MP4 or MOV lists every frame with its time. It is trusted.
- Every other length is an estimate: an MKV's may be that of its sound, a transport stream's is a guess from
  its two ends, fragments and live recordings may have none. There the packets are read and counted, which
  decodes nothing and costs about as much as reading the file once.
- An AVI's index tells how many frames there should be, so that missing ones can be named.

Limits on length are checked again while decoding.
"""

import contextlib
from dataclasses import dataclass

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from handler.context import Check
from handler.source.seek import INDEXED_CONTAINERS
from handler.source.timestamps import USUAL_FPS, TimestampRepair

ROUNDING_SECONDS = 0.002  # MKV's times are whole milliseconds; no rate is too high because of that


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How much of a picture stream there is.

    Attributes:
        seconds: from the first frame to the end of the last; None if no packet has a time.
        num_frames: frames to expect.
        num_announced: frames that an index lists, present or not; None without an index.
        fps: frames per second on average; None if unknown.
    """

    seconds: float | None
    num_frames: int
    num_announced: int | None
    fps: float | None


def measure(container: InputContainer, stream: VideoStream, check: Check, *, is_cut_off: bool) -> Length:
    """The length of a stream of a file just opened, whose packets are consumed.

    `check` is called for every packet; `is_cut_off` says that the file ends before its last picture.
    """
    announced = _announced(container, stream)
    if announced and has_sample_table(container, stream) and not is_cut_off and stream.duration:
        assert stream.time_base is not None
        return Length(
            seconds=float(stream.duration * stream.time_base),
            num_frames=announced,
            num_announced=announced,
            fps=float(stream.average_rate) if stream.average_rate else None,
        )
    seconds, num_frames = _count(container, stream, check)
    return Length(
        seconds=seconds,
        num_frames=num_frames,
        num_announced=announced,
        fps=num_frames / (seconds + ROUNDING_SECONDS) if seconds else None,
    )


def has_sample_table(container: InputContainer, stream: VideoStream) -> bool:
    """Whether an MP4's index lists every frame; those of fragments have none."""
    return "mp4" in container.format.name and stream.frames > 0


def _announced(container: InputContainer, stream: VideoStream) -> int | None:
    if container.format.name == "avi":
        # The header counts steps of its clock. An index of one entry is none: it grows while reading.
        return len(stream.index_entries) if len(stream.index_entries) > 1 else None
    return stream.frames or None


def _count(container: InputContainer, stream: VideoStream, check: Check) -> tuple[float | None, int]:
    """(Seconds, frames) of the packets present."""
    assert stream.time_base is not None
    one_clock = container.format.name in INDEXED_CONTAINERS
    step = 1 / float(stream.average_rate or USUAL_FPS)
    timestamps = TimestampRepair(stream.time_base, 1 / step, may_leap=container.format.name == "mpegts")
    first = latest = None
    seconds: float | None = None
    num_frames = 0
    with contextlib.suppress(av.FFmpegError):  # damage; decoding ends there too
        for packet in container.demux(stream):
            check()
            if packet.size == 0 or packet.is_discard:
                continue
            num_frames += 1
            if packet.duration:
                step = float(packet.duration * stream.time_base)
            if one_clock and packet.pts is not None:
                first = packet.pts if first is None else min(first, packet.pts)
                latest = packet.pts if latest is None else max(latest, packet.pts)
                seconds = float((latest - first) * stream.time_base)
            elif not one_clock and packet.dts is not None:
                _, seconds = timestamps.place(packet.dts)
    return None if seconds is None else seconds + step, num_frames
