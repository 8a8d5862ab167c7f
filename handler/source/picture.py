"""A decoded picture becomes what a player shows: upright, of square pixels, SDR. Knows nothing of files."""

from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8
from numpy import ndarray

from handler.records import PictureTags
from handler.source.fields import settle_fields
from handler.source.tone import ToneMap, is_hdr, needs_tone_map
from handler.source.upright import Orientation, orientation_of, turn_upright

# Without the last two swscale rounds down, by one to three levels.
CONVERSION = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
UNSPECIFIED, BT2020 = 2, 9  # matrices and primaries, ITU-T H.273
SWSCALE_MATRICES = {0, 1, UNSPECIFIED, 4, 5, 6, 7, BT2020}  # it refuses pictures with any other
MOST_ASPECT = 4  # twice what lenses and broadcasters use; more is a broken header


def tags_of(stream: VideoStream) -> PictureTags:
    """What a stream just opened says; nonsense about the pixels' shape is left out."""
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio
    believable = aspect is not None and 1 / MOST_ASPECT <= aspect <= MOST_ASPECT
    return PictureTags(
        pixel_aspect=aspect if aspect is not None and believable else Fraction(1),
        transfer=context.color_trc,
        primaries=context.color_primaries,
        matrix=context.colorspace,
        colour_range=context.color_range,
    )


def complete_tags(picture: av.VideoFrame, tags: PictureTags) -> None:
    """Let a picture that says nothing of its colours have the container's tags."""
    if picture.color_trc == UNSPECIFIED:
        picture.color_trc = tags.transfer
    if picture.color_primaries == UNSPECIFIED:
        picture.color_primaries = tags.primaries
    if picture.colorspace == UNSPECIFIED:
        picture.colorspace = tags.matrix
    if picture.color_range == 0:
        picture.color_range = tags.colour_range


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """The size at which pixels are square and none is lost: the shorter side of a pixel grows."""
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def treatments(picture: av.VideoFrame) -> list[tuple[str, str]]:
    """What `Renderer` does to this picture that the reader of a result should know: codes and sentences."""
    done = []
    if is_hdr(picture.color_trc):
        done.append(("HDR_TONE_MAPPED", "the video is HDR; it was tone-mapped to SDR"))
    if picture.interlaced_frame:
        done.append(
            ("VIDEO_INTERLACED", "the video is interlaced; each frame shows the moment of its upper field")
        )
    return done


class Renderer:
    """Renders the pictures of one video.

    Args:
        aspect: of the stored pixels.
    """

    def __init__(self, aspect: Fraction) -> None:
        self._aspect = aspect
        self._scaler = VideoReformatter()
        self._tone_map: tuple[tuple[int, int, int], ToneMap] | None = None
        self._oriented: tuple[tuple[int, int, int], Orientation] | None = None

    def render(self, picture: av.VideoFrame) -> UInt8[ndarray, "h w 3"]:
        """The BGR picture. May change `picture`."""
        if picture.interlaced_frame:
            settle_fields(picture)
        width, height = square_size(picture.width, picture.height, self._aspect)
        tone_map = self._tone_map_of(picture)
        # `picture.to_ndarray(format=...)` would set up a scaler and its threads anew for every frame. In
        # planes swscale takes a tenth of the time of interleaved pixels, for the same values.
        converted = self._scaler.reformat(
            picture,
            width,
            height,
            format="gbrp16le" if tone_map else "gbrp",
            src_colorspace=_colorspace(picture),
            interpolation=CONVERSION,
        )
        image = tone_map(converted.to_ndarray()) if tone_map else _interleaved(converted)
        return turn_upright(np.asarray(image, np.uint8), self._orientation_of(picture))

    def _tone_map_of(self, picture: av.VideoFrame) -> ToneMap | None:
        if not needs_tone_map(picture.color_trc, picture.color_primaries):
            return None
        now = picture.color_trc, picture.color_primaries, _white_code(picture)
        if self._tone_map is None or self._tone_map[0] != now:
            self._tone_map = now, ToneMap(*now)
        return self._tone_map[1]

    def _orientation_of(self, picture: av.VideoFrame) -> Orientation:
        """As `orientation_of`, but asks again only when something about the picture has changed.

        PyAV's frame and its side data hold each other: asked for every frame, hundreds of frames would wait
        for the garbage collector.
        """
        now = (picture.width, picture.height, picture.rotation)
        if self._oriented is None or self._oriented[0] != now:
            self._oriented = now, orientation_of(picture)
        return self._oriented[1]


def _interleaved(planar: av.VideoFrame) -> UInt8[ndarray, "h w 3"]:
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]
        for plane in planar.planes
    )
    return np.asarray(cv2.merge([blue, green, red]), np.uint8)


def _white_code(picture: av.VideoFrame) -> int:
    """What swscale makes of white in 16 bits: it shifts code values and does not stretch them."""
    bits = picture.format.components[0].bits if picture.color_range == ColorRange.JPEG else 8
    return ((1 << bits) - 1) << (16 - bits)


def _colorspace(picture: av.VideoFrame) -> Colorspace | None:
    """The colour matrix where swscale cannot go by the picture's own tag; None where it can."""
    is_wide = is_hdr(picture.color_trc) or picture.color_primaries == BT2020
    if picture.colorspace in SWSCALE_MATRICES and not (is_wide and picture.colorspace == UNSPECIFIED):
        return None
    return Colorspace.BT2020 if is_wide else Colorspace.ITU709
