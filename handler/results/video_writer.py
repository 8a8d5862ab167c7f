"""Pictures with their times to an H.264 file."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from jaxtyping import UInt8
from numpy import ndarray

from handler.context import Check

PRESET, CRF = "veryfast", "21"  # 40 frames/s of 1080p on one core, no visible loss
CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND  # else swscale rounds down
FALLBACK_FPS = Fraction(30)  # only a hint for the encoder's rate control
# Room for the index: what describes the one stream, and 45 bytes a picture if each has a time step, a delay,
# the mark of a key frame and a chunk of its own.
INDEX_BYTES, INDEX_BYTES_PER_PICTURE = 4096, 48


class VideoWriter:
    """An open mp4 file, from `video_writer`. Every picture gets the size of the first one, made even."""

    def __init__(
        self, container: av.container.OutputContainer, *, time_base: Fraction, average_fps: float | None
    ) -> None:
        self._container = container
        self._time_base = time_base
        self._rate = Fraction(average_fps).limit_denominator(1001) if average_fps else FALLBACK_FPS
        self._stream: av.VideoStream | None = None
        self._size = (0, 0)
        self._first_pts = self._last_pts = 0

    def add(self, image_bgr: UInt8[ndarray, "h w 3"], pts: int) -> None:
        """Append a picture; the video starts at 0.

        `pts` is in ticks; one that does not grow becomes the previous one plus 1.
        """
        if self._stream is None:
            self._stream, self._first_pts = self._opened(image_bgr), pts
        else:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        if (image_bgr.shape[1], image_bgr.shape[0]) != self._size:
            image_bgr = cv2.resize(image_bgr, self._size, interpolation=cv2.INTER_AREA)
        right, bottom = self._size[0] % 2, self._size[1] % 2  # 4:2:0 colour needs an even size
        image_bgr = cv2.copyMakeBorder(image_bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        picture = av.VideoFrame.from_ndarray(image_bgr, format="bgr24").reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=CONVERSION,
        )
        picture.pts = pts - self._first_pts
        picture.time_base = self._time_base
        self._container.mux(self._stream.encode(picture))

    def _opened(self, image_bgr: UInt8[ndarray, "h w 3"]) -> av.VideoStream:
        height, width = image_bgr.shape[:2]
        self._size = width, height
        stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"preset": PRESET, "crf": CRF}
        )
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._time_base
        stream.codec_context.colorspace = Colorspace.ITU709
        stream.codec_context.color_range = ColorRange.MPEG
        stream.codec_context.color_primaries = ColorPrimaries.BT709
        stream.codec_context.color_trc = ColorTrc.BT709
        return stream

    def finish(self, check: Check) -> None:
        """Write what the encoder still holds, with a `check()` before each picture."""
        if self._stream is None:
            return
        for packet in self._stream.codec_context.encode_lazy(None):
            check()
            packet.stream = self._stream
            self._container.mux(packet)


@contextmanager
def video_writer(
    path: Path, *, time_base: Fraction, average_fps: float | None, most_pictures: int, check: Check
) -> Iterator[VideoWriter]:
    """A video at `path`, playable when the block is left without an error.

    Args:
        path: the file.
        time_base: seconds per tick.
        average_fps: a hint for the encoder; times come with the pictures.
        most_pictures: no more will be added.
        check: called while the encoder is emptied.
    """
    # The index at the front lets a browser start before the whole file is there. Room is left for it: moved
    # there at the end (`faststart`), the whole video would be written twice, the second time in one call that
    # nothing can end and that holds Python's lock.
    room = str(INDEX_BYTES + INDEX_BYTES_PER_PICTURE * most_pictures)
    with av.open(str(path), "w", format="mp4", options={"moov_size": room}) as container:
        pictures = VideoWriter(container, time_base=time_base, average_fps=average_fps)
        yield pictures
        pictures.finish(check)
