"""What a file says about its video, and whether it is worth a GPU. Knows nothing of what comes after."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from handler.connections import Check
from handler.control import read_chunks, unstoppable
from handler.errors import InputError, SourceError
from handler.records import VideoFacts, Warn
from handler.settings import IntakeSettings
from handler.source.container import check_pixels, moving_picture_streams, open_video
from handler.source.oddities import oddity
from handler.source.read import first_picture
from handler.source.sniff import is_cut_off
from handler.source.upright import orientation_of

HDR_TRANSFERS = {16, 18}  # ITU-T H.273: PQ, HLG


def probe(
    path: Path, settings: IntakeSettings, *, sha256: str | None = None, check: Check = unstoppable
) -> VideoFacts:
    """The facts of a local video file; its first frame is decoded as a proof.

    A still image is refused, a video of one frame is not.

    Args:
        path: the file.
        settings: limits.
        sha256: of the file, if the download has computed it; else the file is read once.
        check: called for every packet and chunk that is read; what it raises comes out.

    Raises:
        SourceError: VIDEO_UNREADABLE, VIDEO_HAS_NO_FRAMES.
        InputError: VIDEO_TOO_LARGE.
    """
    size = path.stat().st_size
    if size > settings.max_bytes:
        raise InputError(
            "VIDEO_TOO_LARGE", f"the video is larger than this worker's limit of {settings.max_bytes} bytes"
        )
    frame = first_picture(path, settings, check)
    with open_video(path, settings) as (container, stream):
        check_pixels(frame.width, frame.height, settings)
        orientation = orientation_of(frame)
        width, height = frame.width, frame.height
        if orientation.transpose:
            width, height = height, width
        time_base = stream.time_base or Fraction(1, av.time_base)
        average_fps = float(stream.average_rate) if stream.average_rate else None
        duration = _duration_seconds(container, stream)
        num_frames = stream.frames or None
        if num_frames is None and duration is not None and average_fps is not None:
            num_frames = round(duration * average_fps)
        return VideoFacts(
            path=path,
            container=container.format.name,
            codec=stream.codec_context.codec.canonical_name,
            stream_index=stream.index,
            width=width,
            height=height,
            rotation_degrees=orientation.rotation_degrees,
            time_base=time_base,
            average_fps=average_fps,
            duration_seconds=duration,
            num_frames_estimate=num_frames,
            size_bytes=size,
            sha256=sha256 or _sha256(path, check),
            is_hdr=frame.color_trc in HDR_TRANSFERS,
            warnings=_warnings(path, container, stream, frame),
        )


def check_part(facts: VideoFacts, settings: IntakeSettings, *, start_s: float, end_s: float | None) -> None:
    """Refuse a part that the header says is too long or not there; decoding counts again.

    Raises:
        InputError: VIDEO_TOO_LONG.
        SourceError: VIDEO_HAS_NO_FRAMES if the video ends before the part begins.
    """
    if facts.duration_seconds is None:
        return
    if start_s > 0 and start_s >= facts.duration_seconds:
        raise SourceError(
            "VIDEO_HAS_NO_FRAMES", f"the video ends after {facts.duration_seconds:.2f} s, before start_s"
        )
    part_seconds = min(facts.duration_seconds, end_s or facts.duration_seconds) - start_s
    if part_seconds > settings.max_duration_seconds:
        raise InputError("VIDEO_TOO_LONG", too_long(settings))


def too_long(settings: IntakeSettings) -> str:
    """What VIDEO_TOO_LONG says about time."""
    return (
        f"the part to process is longer than this worker's limit of {settings.max_duration_seconds:g} s; "
        "give start_s and end_s"
    )


def _duration_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _sha256(path: Path, check: Check) -> str:
    digest = hashlib.sha256()
    for chunk in read_chunks(path, check):
        digest.update(chunk)
    return digest.hexdigest()


def _warnings(
    path: Path, container: InputContainer, stream: VideoStream, frame: av.VideoFrame
) -> tuple[Warn, ...]:
    found: list[Warn] = []
    if is_cut_off(path):
        found.append(oddity("VIDEO_CUT_OFF", "the file is shorter than its index says; its end is missing"))
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        found.append(
            oddity("PIXELS_NOT_SQUARE", f"pixels are {float(aspect):.4g} times as wide as high; not rescaled")
        )
    if frame.color_trc in HDR_TRANSFERS:
        found.append(oddity("HDR_NOT_TONE_MAPPED", "the video is HDR; its values are used as they are"))
    if (num_streams := len(moving_picture_streams(container))) > 1:
        message = f"the file has {num_streams} video streams; the first is used"
        found.append(oddity("MORE_VIDEO_STREAMS", message))
    return tuple(found)
