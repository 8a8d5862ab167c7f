"""Turns a decoded picture into what a player shows: upright, SDR, square pixels, one moment in time."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8
from numpy import ndarray

from handler.records import PictureTags
from handler.source.tone import ToneMap, is_hdr, needs_tone_map

# Without the last two swscale rounds down, by one to three levels.
CONVERSION = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
UNSPECIFIED, BT2020 = 2, 9  # matrices and primaries, ITU-T H.273
SWSCALE_MATRICES = {0, 1, UNSPECIFIED, 4, 5, 6, 7, BT2020}  # it refuses pictures with any other
MOST_ASPECT = 4  # twice what lenses and broadcasters use; more is a broken header


def tags_of(stream: VideoStream) -> PictureTags:
    """The tags of a stream that was just opened; an impossible pixel aspect is ignored."""
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio or Fraction(1)
    return PictureTags(
        pixel_aspect=aspect if 1 / MOST_ASPECT <= aspect <= MOST_ASPECT else Fraction(1),
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
        message = "the video is interlaced; each frame shows the moment of its upper field"
        done.append(("VIDEO_INTERLACED", message))
    return done


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How stored pixels become upright ones, by right angles only.

    An angle alone would hide mirroring: FFmpeg reports a mirrored picture as turned by 180 degrees.
    """

    transpose: bool = False  # first
    flip_x: bool = False  # then left to right
    flip_y: bool = False  # then top to bottom

    @property
    def rotation_degrees(self) -> int:
        """Counter-clockwise rotation to apply, mirroring left aside: 0, 90, 180 or 270."""
        if self.transpose:
            return 90 if self.flip_y else 270
        return 180 if self.flip_y else 0


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """What the frame's display matrix asks for, to the nearest right angle."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    return orientation_of_matrix(bytes(side_data)) if isinstance(side_data, Buffer) else Orientation()


def orientation_of_matrix(matrix: bytes) -> Orientation:
    """The orientation in FFmpeg's 3x3 display matrix: nine native 32-bit integers, row vectors.

    A stored point (x, y) is shown at (a x + c y, b x + d y), with x to the right and y down.
    """
    if len(matrix) != 36:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(flip_x=a < 0, flip_y=d < 0)
    return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)


def turn_upright(stored: UInt8[ndarray, "h w 3"], orientation: Orientation) -> UInt8[ndarray, "h2 w2 3"]:
    """The upright picture, contiguous in memory; the input itself if nothing is to be done."""
    image = cv2.transpose(stored) if orientation.transpose else stored
    if orientation.flip_x or orientation.flip_y:
        code = -1 if orientation.flip_x and orientation.flip_y else int(orientation.flip_x)
        image = cv2.flip(image, code)
    return np.asarray(image)


class Renderer:
    """Renders the pictures of one video, whose stored pixels have the given aspect."""

    def __init__(self, aspect: Fraction) -> None:
        self._aspect = aspect
        self._scaler = VideoReformatter()
        self._tone_map = lru_cache(maxsize=1)(ToneMap)
        self._oriented: tuple[tuple[int, int, int], Orientation] | None = None

    def render(self, picture: av.VideoFrame) -> UInt8[ndarray, "h w 3"]:
        """The BGR picture. May change `picture`."""
        if picture.interlaced_frame:
            deinterlace(picture)
        width, height = square_size(picture.width, picture.height, self._aspect)
        tags = picture.color_trc, picture.color_primaries
        tone_map = self._tone_map(*tags, _white_code(picture)) if needs_tone_map(*tags) else None
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

    def _orientation_of(self, picture: av.VideoFrame) -> Orientation:
        """As `orientation_of`, but asks again only when something about the picture has changed.

        PyAV's frame and its side data hold each other: asked for every frame, hundreds of frames would wait
        for the garbage collector.
        """
        now = (picture.width, picture.height, picture.rotation)
        if self._oriented is None or self._oriented[0] != now:
            self._oriented = now, orientation_of(picture)
        return self._oriented[1]


def deinterlace(picture: av.VideoFrame) -> None:
    """Remove from the lower field what has moved since the upper one, in place.

    Each line of the lower field is clipped to the range of its two neighbours (the median of the three). So
    still parts keep their full resolution, and a picture that is wrongly marked as interlaced loses only
    details of a single line. No other frame is used: the result does not depend on where decoding began.
    """
    picture.make_writable()  # the decoder may still predict from these pixels
    order = ">" if picture.format.is_big_endian else "<"
    sample = f"{order}u2" if picture.format.components[0].bits > 8 else "u1"
    for plane in picture.planes:  # in 4:2:0, too, the lines of each plane belong to the fields in turn
        rows = np.frombuffer(memoryview(plane), sample).reshape(plane.height, -1)
        lower = rows[1::2]
        above = rows[0::2][: len(lower)]
        below = np.concatenate([rows[2::2], above[-1:]])[: len(lower)]
        np.clip(lower, np.minimum(above, below), np.maximum(above, below), out=lower)


def fit(image: UInt8[ndarray, "h w 3"], width: int, height: int) -> UInt8[ndarray, "h2 w2 3"]:
    """The whole picture scaled into `width` x `height`, its shape kept, black beside it."""
    old_height, old_width = image.shape[:2]
    scale = min(width / old_width, height / old_height)
    new_width = min(width, max(1, round(old_width * scale)))
    new_height = min(height, max(1, round(old_height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - new_width) // 2, (height - new_height) // 2
    canvas[top : top + new_height, left : left + new_width] = scaled
    return canvas


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
