"""What a file says about its video, and whether the video can be processed.

How long it is:

- The sample table of a complete MP4 or MOV lists every frame with its time. It is trusted.
- Every other length is an estimate: an MKV's may be that of its sound, a transport stream's is a guess from
  its two ends, fragments and live recordings may have none. There the packets are read and counted, which
  decodes nothing and costs about as much as reading the file once.
- An AVI's index tells how many frames there should be, so that missing ones can be named.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from handler.context import Check, read_chunks, unstoppable
from handler.errors import ErrorCode, InputError, SourceError
from handler.records import VideoFacts, Warn
from handler.settings import IntakeSettings
from handler.source.container import check_pixels, open_video, video_streams
from handler.source.packets import first_look
from handler.source.picture import complete_tags, orientation_of, square_size, tags_of, treatments
from handler.source.seek import INDEXED_CONTAINERS
from handler.source.timestamps import USUAL_FPS, TimestampRepair
from handler.source.tone import is_hdr
from handler.source.truncation import is_cut_off

ROUNDING_SECONDS = 0.002  # MKV's times are whole milliseconds; no rate is too high because of that


def probe(
    path: Path, settings: IntakeSettings, *, sha256: str | None = None, check: Check = unstoppable
) -> VideoFacts:
    """The facts of a local video file. Its first frame is decoded, to be sure that it can be.

    A still image is refused, a video of one frame is not. `check` is called for every packet and chunk read;
    what it raises is passed on. Without `sha256` the file is read once for its hash.

    Raises:
        SourceError: VIDEO_UNREADABLE, VIDEO_HAS_NO_FRAMES.
        InputError: VIDEO_TOO_LARGE.
    """
    look = first_look(path, settings, check)
    picture = look.picture
    with open_video(path, settings) as (container, stream):
        tags = tags_of(stream)
        complete_tags(picture, tags)
        width, height = square_size(picture.width, picture.height, tags.pixel_aspect)
        check_pixels(width, height, settings)
        orientation = orientation_of(picture)
        if orientation.transpose:
            width, height = height, width
        is_cut = _lacks_pictures(path, container, stream)
        num_streams = len(video_streams(path, container, settings))
        num_listed = _num_listed(container, stream)
        whole_index = None if is_cut else num_listed
        seconds, num_frames, fps = _length(container, stream, check, whole_index)
        if fps is not None and fps > settings.max_fps * (1 + 1e-6):
            message = f"the video has {fps:.0f} frames per second; the limit is {settings.max_fps:g}"
            raise InputError(ErrorCode.VIDEO_TOO_LARGE, message)
        return VideoFacts(
            path=path,
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            rotation_degrees=orientation.rotation_degrees,
            time_base=stream.time_base or Fraction(1, av.time_base),
            first_pts=picture.pts,
            average_fps=_header_fps(stream),
            duration_seconds=seconds,
            num_frames_estimate=num_frames,
            num_frames_announced=num_listed,
            size_bytes=path.stat().st_size,
            sha256=sha256 or _sha256(path, check),
            is_hdr=is_hdr(picture.color_trc),
            is_cut_off=is_cut,
            in_decode_order=look.in_decode_order,
            tags=tags,
            warnings=tuple(_warnings(stream, picture, is_cut=is_cut, num_streams=num_streams)),
        )


def check_part(facts: VideoFacts, settings: IntakeSettings, *, start_s: float, end_s: float | None) -> None:
    """Refuse a part that is too long or behind the end; decoding checks again.

    Raises:
        InputError: VIDEO_TOO_LONG.
        SourceError: VIDEO_HAS_NO_FRAMES if the video ends before the part begins.
    """
    if facts.duration_seconds is None:
        return
    # Where joined transport streams begin is only known once they are decoded.
    if start_s > 0 and start_s >= facts.duration_seconds and facts.container != "mpegts":
        message = f"the video ends after {facts.duration_seconds:.2f} s, before start_s"
        raise SourceError(ErrorCode.VIDEO_HAS_NO_FRAMES, message)
    part_seconds = min(facts.duration_seconds, end_s or facts.duration_seconds) - start_s
    if part_seconds > settings.max_duration_seconds:
        raise too_long(settings)


def too_long(settings: IntakeSettings) -> InputError:
    """VIDEO_TOO_LONG of a part that takes too much time."""
    return InputError(
        ErrorCode.VIDEO_TOO_LONG,
        f"the part to process is longer than this worker's limit of {settings.max_duration_seconds:g} s; "
        "give start_s and end_s",
    )


def _lacks_pictures(path: Path, container: InputContainer, stream: VideoStream) -> bool:
    """Whether the file ends before its last picture; an MP4 may only lack the end of its sound."""
    if not is_cut_off(path):
        return False
    size = path.stat().st_size
    if not _has_sample_table(container, stream):
        return True
    return any(entry.pos + entry.size > size for entry in stream.index_entries)


def _has_sample_table(container: InputContainer, stream: VideoStream) -> bool:
    """Whether an MP4's index lists every frame; those of fragments have none."""
    return "mp4" in container.format.name and stream.frames > 0


def _num_listed(container: InputContainer, stream: VideoStream) -> int | None:
    """How many frames an index lists, present or not; None without an index."""
    if container.format.name == "avi":
        # The header counts steps of its clock. An index with one entry still grows while packets are read.
        return len(stream.index_entries) if len(stream.index_entries) > 1 else None
    return stream.frames or None


def _header_fps(stream: VideoStream) -> float | None:
    return float(stream.average_rate) if stream.average_rate else None


def _length(
    container: InputContainer, stream: VideoStream, check: Check, num_listed: int | None
) -> tuple[float | None, int, float | None]:
    """(Seconds from the first frame to the end of the last, frames, frames per second)."""
    assert stream.time_base is not None
    if num_listed and stream.duration and _has_sample_table(container, stream):
        return float(stream.duration * stream.time_base), num_listed, _header_fps(stream)
    seconds, num_frames = _count(container, stream, check)
    return seconds, num_frames, num_frames / (seconds + ROUNDING_SECONDS) if seconds else None


def _count(container: InputContainer, stream: VideoStream, check: Check) -> tuple[float | None, int]:
    """(Seconds, frames) of the packets present, which are consumed; no seconds if no packet has a time."""
    assert stream.time_base is not None
    one_clock = container.format.name in INDEXED_CONTAINERS
    step = 1 / (_header_fps(stream) or USUAL_FPS)
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


def _sha256(path: Path, check: Check) -> str:
    digest = hashlib.sha256()
    for chunk in read_chunks(path, check):
        digest.update(chunk)
    return digest.hexdigest()


def _warnings(
    stream: VideoStream, picture: av.VideoFrame, *, is_cut: bool, num_streams: int
) -> Iterator[Warn]:
    if is_cut:
        yield Warn(code="VIDEO_CUT_OFF", message="the file breaks off; its end is missing")
    aspect, stated = tags_of(stream).pixel_aspect, stream.sample_aspect_ratio or 1
    if aspect != stated:
        message = f"the file calls its pixels {float(stated):.4g} times as wide as high; it is not believed"
        yield Warn(code="PIXELS_NOT_SQUARE", message=message)
    elif aspect != 1:
        width, height = square_size(picture.width, picture.height, aspect)
        message = (
            f"pixels are {float(aspect):.4g} times as wide as high; {picture.width} x {picture.height} "
            f"stored pixels were scaled to {width} x {height}"
        )
        yield Warn(code="PIXELS_NOT_SQUARE", message=message)
    for code, message in treatments(picture):
        yield Warn(code=code, message=message)
    if num_streams > 1:
        message = f"the file has {num_streams} video streams; stream {stream.index} is used, as players do"
        yield Warn(code="MORE_VIDEO_STREAMS", message=message)
