"""Opens a local video file and its picture stream, and nothing else. Knows nothing of jobs or frames.

The lists below are the fence around FFmpeg: a text file named .mp4 that begins with `ffconcat` would
otherwise open and decode another local file, and decoders nobody uses are where its faults live.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from handler.errors import InputError, SourceError
from handler.settings import IntakeSettings
from handler.source.choose import as_players_do, marked_moving, without_stills
from handler.source.sniff import what_else
from handler.source.truncation import is_cut_off

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
CODECS = (
    "h264,hevc,vvc,vp8,vp9,av1,libdav1d,mpeg4,mpeg2video,mpeg1video,h263,mjpeg,"
    "prores,dnxhd,cfhd,ffv1,rawvideo,v210"
)


@contextlib.contextmanager
def open_video(path: Path, settings: IntakeSettings) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and the stream of moving pictures that players show, ready to decode; closed on leaving.

    Raises:
        SourceError: VIDEO_UNREADABLE, VIDEO_HAS_NO_FRAMES.
        InputError: VIDEO_TOO_LARGE (streams, pixels).
    """
    if other := what_else(path):
        raise SourceError("VIDEO_UNREADABLE", f"the file is not a video: it is {other}")
    with _open(path, settings) as container:
        stream = _moving_pictures(path, container, settings)
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": _pixel_guard(settings)}
        yield container, stream


def _open(path: Path, settings: IntakeSettings) -> InputContainer:
    options = {
        "format_whitelist": FORMATS,
        "codec_whitelist": CODECS,
        "protocol_whitelist": "file",
        "max_pixels": _pixel_guard(settings),
    }
    url = str(path.resolve())  # an absolute path holds no "protocol:" that FFmpeg could take for one
    with contextlib.suppress(av.FFmpegError, UnicodeError):
        return av.open(url, options=options, metadata_errors="replace")
    try:
        # Once more without looking for the last fragments, which may be cut off.
        return av.open(url, options=options | {"fflags": "+ignidx"}, metadata_errors="replace")
    except (av.FFmpegError, UnicodeError) as error:
        raise SourceError("VIDEO_UNREADABLE", _why_unreadable(path)) from error


def _pixel_guard(settings: IntakeSettings) -> str:
    """Frames may be larger than the header says: the decoder itself refuses those.

    Twice the limit, because it counts padding too; `check_pixels` is exact.
    """
    return str(2 * settings.max_pixels + 64 * 64)


def _why_unreadable(path: Path) -> str:
    if is_cut_off(path):
        return "the file is cut off before its index: its upload or download was not complete"
    return "the file is not a video in a container that this worker reads (MP4, MOV, MKV, WebM, AVI, TS)"


def _moving_pictures(path: Path, container: InputContainer, settings: IntakeSettings) -> VideoStream:
    if len(container.streams) > settings.max_streams:
        raise InputError(
            "VIDEO_TOO_LARGE", f"the file has more than this worker's limit of {settings.max_streams} streams"
        )
    streams = moving_picture_streams(path, container, settings)
    if not streams:
        what = "data"
        if container.streams.video or container.streams.audio:
            what = "a still picture" if container.streams.video else "sound"
        raise SourceError("VIDEO_HAS_NO_FRAMES", f"the file has no moving pictures, only {what}")
    stream = streams[0]
    context: VideoCodecContext | None = stream.codec_context  # None where FFmpeg has no decoder
    if context is None or context.codec.name not in CODECS.split(","):
        name = f" ({context.codec.name})" if context else ""
        raise SourceError("VIDEO_UNREADABLE", f"this worker does not read the video's codec{name}")
    check_pixels(context.width, context.height, settings)
    return stream


def moving_picture_streams(
    path: Path, container: InputContainer, settings: IntakeSettings
) -> list[VideoStream]:
    """The video streams that are no cover art, still image or thumbnail, the best one first."""
    streams = marked_moving(container)
    if len(streams) > 1:
        with _open(path, settings) as again:
            streams = without_stills(streams, again)
    return as_players_do(streams, container, CODECS.split(","))


def check_pixels(width: int, height: int, settings: IntakeSettings) -> None:
    """Refuse frames that are too large.

    Raises:
        InputError: VIDEO_TOO_LARGE.
    """
    if width * height > settings.max_pixels:
        raise InputError(
            "VIDEO_TOO_LARGE",
            f"a frame has {width} x {height} pixels; the limit is {settings.max_pixels} in all",
        )
