"""The warnings about a video: what is unusual about it but does not fail the job."""

from handler.records import Warn

WARNINGS = {
    "VIDEO_CUT_OFF": "The file breaks off before its last frame; the frames that are there were used.",
    "VIDEO_ENDED_EARLY": "Reading stopped at damage; the frames before it were used.",
    "FRAMES_MISSING": "Fewer frames could be decoded than the file's index lists.",
    "FRAMES_CORRUPT": "Some frames are damaged; they are marked `is_corrupt`.",
    "TIMESTAMPS_REPAIRED": "Some timestamps were missing or wrong; `pts_seconds` was made to grow.",
    "SIZE_CHANGED": "The picture changes size; later frames were fitted into the first one's size.",
    "PIXELS_NOT_SQUARE": "Stored pixels are not square; the frames were scaled so that they are.",
    "HDR_TONE_MAPPED": "The video is HDR; the frames were tone-mapped to SDR.",
    "VIDEO_INTERLACED": "The video is interlaced; each frame shows the moment of its upper field.",
    "MORE_VIDEO_STREAMS": "The file holds several video streams; the one that players show was used.",
}


def warning(code: str, message: str, frame_index: int | None = None) -> Warn:
    """A warning under one of the codes above."""
    if code not in WARNINGS:
        raise ValueError(f"{code} is not listed")
    return Warn(code=code, message=message, frame_index=frame_index)
