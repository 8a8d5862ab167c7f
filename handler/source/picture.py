"""A decoded picture becomes what a player shows: upright, in its colours. Knows nothing of files."""

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8
from numpy import ndarray

from handler.source.upright import Orientation, orientation_of, turn_upright

# Without the last two swscale rounds down, by one to three levels.
CONVERSION = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
SWSCALE_MATRICES = {0, 1, 2, 4, 5, 6, 7, 9}  # it refuses pictures with any other


class Renderer:
    """Renders the pictures of one video."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()
        self._oriented: tuple[tuple[int, int, int], Orientation] | None = None

    def render(self, picture: av.VideoFrame) -> UInt8[ndarray, "h w 3"]:
        """The BGR picture."""
        # `picture.to_ndarray(format=...)` would set up a scaler and its threads anew for every frame.
        converted = self._scaler.reformat(
            picture,
            format="bgr24",
            src_colorspace=_colorspace(picture),
            interpolation=CONVERSION,
        ).to_ndarray()
        return turn_upright(np.asarray(converted, np.uint8), self._orientation_of(picture))

    def _orientation_of(self, picture: av.VideoFrame) -> Orientation:
        """As `orientation_of`, but asks again only when something about the picture has changed.

        PyAV's frame and its side data hold each other: asked for every frame, hundreds of frames would wait
        for the garbage collector.
        """
        now = (picture.width, picture.height, picture.rotation)
        if self._oriented is None or self._oriented[0] != now:
            self._oriented = now, orientation_of(picture)
        return self._oriented[1]


def _colorspace(picture: av.VideoFrame) -> Colorspace | None:
    """The colour matrix where swscale cannot go by the picture's own tag; None where it can."""
    return None if picture.colorspace in SWSCALE_MATRICES else Colorspace.ITU709
