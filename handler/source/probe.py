"""What a file says about its video, and whether the video can be processed."""

import hashlib
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
from handler.source.length import Length, has_sample_table, measure
from handler.source.packets import first_look
from handler.source.picture import complete_tags, orientation_of, square_size, tags_of, treatments
from handler.source.tone import is_hdr
from handler.source.truncation import is_cut_off
from handler.source.warnings import warning


def probe(
    path: Path, settings: IntakeSettings, *, sha256: str | None = None, check: Check = unstoppable
) -> VideoFacts:
    """The facts of a local video file. Its first frame is decoded, to be sure that it can be.

    A still image is refused, a video of one frame is not.

    Args:
        path: the file.
        settings: limits.
        sha256: of the file, if the download has computed it; else the file is read once.
        check: called for every packet and chunk that is read; what it raises is passed on.

    Raises:
        SourceError: VIDEO_UNREADABLE, VIDEO_HAS_NO_FRAMES.
        InputError: VIDEO_TOO_LARGE.
    """
    size = path.stat().st_size
    if size > settings.max_bytes:
        raise InputError(
            ErrorCode.VIDEO_TOO_LARGE,
            f"the video is larger than this worker's limit of {settings.max_bytes} bytes",
        )
    look = first_look(path, settings, check)
    frame = look.picture
    with open_video(path, settings) as (container, stream):
        tags = tags_of(stream)
        complete_tags(frame, tags)
        width, height = square_size(frame.width, frame.height, tags.pixel_aspect)
        check_pixels(width, height, settings)
        orientation = orientation_of(frame)
        if orientation.transpose:
            width, height = height, width
        time_base = stream.time_base or Fraction(1, av.time_base)
        average_fps = float(stream.average_rate) if stream.average_rate else None
        is_cut = _lacks_pictures(path, container, stream)
        found = _warnings(
            stream, frame, is_cut=is_cut, num_streams=len(video_streams(path, container, settings))
        )
        length = measure(container, stream, check, is_cut_off=is_cut)
        _check_rate(length, settings)
        return VideoFacts(
            path=path,
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            rotation_degrees=orientation.rotation_degrees,
            time_base=time_base,
            average_fps=average_fps,
            duration_seconds=length.seconds,
            num_frames_estimate=length.num_frames,
            num_frames_announced=length.num_announced,
            size_bytes=size,
            sha256=sha256 or _sha256(path, check),
            is_hdr=is_hdr(frame.color_trc),
            is_cut_off=is_cut,
            in_decode_order=look.in_decode_order,
            tags=tags,
            warnings=found,
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
        raise SourceError(
            ErrorCode.VIDEO_HAS_NO_FRAMES,
            f"the video ends after {facts.duration_seconds:.2f} s, before start_s",
        )
    part_seconds = min(facts.duration_seconds, end_s or facts.duration_seconds) - start_s
    if part_seconds > settings.max_duration_seconds:
        raise InputError(ErrorCode.VIDEO_TOO_LONG, too_long(settings))


def too_long(settings: IntakeSettings) -> str:
    """The message of VIDEO_TOO_LONG about time."""
    return (
        f"the part to process is longer than this worker's limit of {settings.max_duration_seconds:g} s; "
        "give start_s and end_s"
    )


def _lacks_pictures(path: Path, container: InputContainer, stream: VideoStream) -> bool:
    """Whether the file ends before its last picture; an MP4 may only lack the end of its sound."""
    if not is_cut_off(path):
        return False
    size = path.stat().st_size
    whole_index = has_sample_table(container, stream)
    return not whole_index or any(entry.pos + entry.size > size for entry in stream.index_entries)


def _check_rate(length: Length, settings: IntakeSettings) -> None:
    if length.fps is not None and length.fps > settings.max_fps * (1 + 1e-6):
        raise InputError(
            ErrorCode.VIDEO_TOO_LARGE,
            f"the video has {length.fps:.0f} frames per second; the limit is {settings.max_fps:g}",
        )


def _sha256(path: Path, check: Check) -> str:
    digest = hashlib.sha256()
    for chunk in read_chunks(path, check):
        digest.update(chunk)
    return digest.hexdigest()


def _warnings(
    stream: VideoStream, frame: av.VideoFrame, *, is_cut: bool, num_streams: int
) -> tuple[Warn, ...]:
    found: list[Warn] = []
    if is_cut:
        found.append(warning("VIDEO_CUT_OFF", "the file breaks off; its end is missing"))
    aspect, stated = tags_of(stream).pixel_aspect, stream.sample_aspect_ratio or 1
    if aspect != stated:
        message = f"the file calls its pixels {float(stated):.4g} times as wide as high; it is not believed"
        found.append(warning("PIXELS_NOT_SQUARE", message))
    elif aspect != 1:
        width, height = square_size(frame.width, frame.height, aspect)
        message = (
            f"pixels are {float(aspect):.4g} times as wide as high; {frame.width} x {frame.height} stored "
        )
        found.append(warning("PIXELS_NOT_SQUARE", f"{message}pixels were scaled to {width} x {height}"))
    found += [warning(code, message) for code, message in treatments(frame)]
    if num_streams > 1:
        message = f"the file has {num_streams} video streams; stream {stream.index} is used, as players do"
        found.append(warning("MORE_VIDEO_STREAMS", message))
    return tuple(found)
