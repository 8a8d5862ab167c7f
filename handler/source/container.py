"""Opens a local video file and its picture stream, or says why it cannot be used.

The lists of formats and codecs limit what FFmpeg may do: a text file named .mp4 that begins with `ffconcat`
would otherwise open and decode another local file, and rarely used decoders are where its faults are.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from handler.errors import ErrorCode, InputError, SourceError
from handler.settings import IntakeSettings
from handler.source.truncation import is_cut_off

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
CODECS = ["h264", "hevc", "vvc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video", "h263"]
CODECS += ["mjpeg", "prores", "dnxhd", "cfhd", "ffv1", "rawvideo", "v210"]
STILL = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
ENOUGH_PACKETS = 250  # of one stream: by then one with a frame every few seconds has shown its second
HEAD_BYTES = 4096  # of a file, to tell what it is

# First bytes of files that are not videos.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"\x89PNG", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8", "a GIF image"),
    (rb"RIFF....WEBP", "a WebP image"),
    (rb"II\*\0|MM\0\*", "a TIFF image"),
    (rb"....ftyp(heic|heix|heim|heis|mif1|avif)", "a still image (HEIF or AVIF)"),
    (rb"ID3|\xff[\xfb\xf3\xf2]", "an MP3 audio file"),
    (rb"RIFF....WAVE", "a WAV audio file"),
    (rb"fLaC", "a FLAC audio file"),
    (rb"OggS", "an Ogg file"),
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"#EXTM3U|ffconcat|v=0\r?\n|\s*<MPD|\[playlist\]", "a playlist; send the video file itself"),
    (rb"\s*<(?i:!doctype html|html)", "a web page; the link may need a login"),
    (rb"\s*<\?xml|\s*<Error", "an XML document; the store may have answered with an error"),
    (rb"\s*[{\[]\s*[\"\]}]", "a JSON document"),
)


@contextlib.contextmanager
def open_video(path: Path, settings: IntakeSettings) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and the video stream that players show, ready to decode; closed on leaving.

    Raises:
        SourceError: VIDEO_UNREADABLE, VIDEO_HAS_NO_FRAMES.
        InputError: VIDEO_TOO_LARGE (streams, pixels).
    """
    if other := what_else(path):
        raise SourceError(ErrorCode.VIDEO_UNREADABLE, f"the file is not a video: it is {other}")
    with _open(path, settings) as container:
        if len(container.streams) > settings.max_streams:
            message = f"the file has more than this worker's limit of {settings.max_streams} streams"
            raise InputError(ErrorCode.VIDEO_TOO_LARGE, message)
        stream = next(iter(video_streams(path, container, settings)), None)
        if stream is None:
            what = "sound" if container.streams.audio else "data"
            what = "a still picture" if container.streams.video else what
            raise SourceError(ErrorCode.VIDEO_HAS_NO_FRAMES, f"the file has no moving pictures, only {what}")
        codec = _codec(stream)
        if codec not in CODECS:
            name = f" ({codec})" if codec else ""
            message = f"this worker cannot decode the video's codec{name}; send H.264, HEVC, VP9 or AV1"
            raise SourceError(ErrorCode.VIDEO_UNREADABLE, message)
        check_pixels(stream.codec_context.width, stream.codec_context.height, settings)
        stream.thread_type = "AUTO"
        stream.codec_context.options = {"max_pixels": _max_decoder_pixels(settings)}
        yield container, stream


def video_streams(path: Path, container: InputContainer, settings: IntakeSettings) -> list[VideoStream]:
    """The streams of moving pictures, in the order in which players prefer them.

    Cover art, still images and thumbnails are left out, whether marked as such or stored as streams of one
    picture. A stream that can be decoded comes first, then one marked as default, then FFmpeg's choice.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & STILL]
    if len(streams) > 1:
        num_packets: Counter[int] = Counter()
        with _open(path, settings) as again, contextlib.suppress(av.FFmpegError):  # decoding reports damage
            for packet in again.demux([again.streams[stream.index] for stream in streams]):
                num_packets[packet.stream_index] += packet.size > 0
                if num_packets[packet.stream_index] == ENOUGH_PACKETS:
                    break
        streams = [stream for stream in streams if num_packets[stream.index] > 1] or streams
    best = container.streams.best("video")

    def rank(stream: VideoStream) -> tuple[bool, bool, bool]:
        is_default = bool(stream.disposition & Disposition.default)
        return _codec(stream) not in CODECS, not is_default, stream is not best

    return sorted(streams, key=rank)


def check_pixels(width: int, height: int, settings: IntakeSettings) -> None:
    """Refuse frames that are too large.

    Raises:
        InputError: VIDEO_TOO_LARGE.
    """
    if width * height > settings.max_pixels:
        message = f"a frame has {width} x {height} pixels; the limit is {settings.max_pixels} in all"
        raise InputError(ErrorCode.VIDEO_TOO_LARGE, message)


def what_else(path: Path) -> str | None:
    """What the file is if its first bytes show that it is not a video; None if it may be one.

    This only makes messages helpful; `FORMATS` keeps disguised playlists out.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return "empty"
    for pattern, words in _SIGNATURES:
        if re.match(b"(?s:" + pattern + b")", head):
            return words
    try:
        text = head[: HEAD_BYTES - 4].decode()  # a character may be cut at the very end
    except UnicodeDecodeError:
        return None
    return None if re.search(r"[\0-\x08\x0b\x0e-\x1f]", text) else "a text file"


def _open(path: Path, settings: IntakeSettings) -> InputContainer:
    options = {
        "format_whitelist": FORMATS,
        "codec_whitelist": ",".join(CODECS),
        "protocol_whitelist": "file",
        "max_pixels": _max_decoder_pixels(settings),
    }
    url = str(path.resolve())  # an absolute path cannot begin with a "protocol:" of FFmpeg's
    with contextlib.suppress(av.FFmpegError, UnicodeError):
        return av.open(url, options=options, metadata_errors="replace")
    try:
        # Once more without looking for the last fragments, which may be cut off.
        return av.open(url, options=options | {"fflags": "+ignidx"}, metadata_errors="replace")
    except (av.FFmpegError, UnicodeError) as error:
        message = (
            "the file is not a video in a container that this worker reads (MP4, MOV, MKV, WebM, AVI, TS)"
        )
        if is_cut_off(path):
            message = "the file is cut off before its index: its upload or download was not complete"
        raise SourceError(ErrorCode.VIDEO_UNREADABLE, message) from error


def _max_decoder_pixels(settings: IntakeSettings) -> str:
    """The decoder's own limit, since frames may be larger than the header says.

    Twice ours, because the decoder counts padding too; `check_pixels` is exact.
    """
    return str(2 * settings.max_pixels + 64 * 64)


def _codec(stream: VideoStream) -> str | None:
    """The name of the decoder; None where FFmpeg has none."""
    context: VideoCodecContext | None = stream.codec_context
    return context.codec.name if context else None
