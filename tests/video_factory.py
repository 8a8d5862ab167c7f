"""Test clips made by code: every frame carries its own number and shows which way is up.

The number is drawn as 16 black or white cells over the upper half of
the picture, most significant bit first; the lower half is dark on the left and bright on the right.
Whole cells survive lossy coding, so order, drops and rotation can be proved from pixels alone.
"""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Colorspace

from tests.hdr_pictures import bt2020_yuv, hdr_codes

NUM_CELLS = 16
DARK, BRIGHT = 60, 190
TICKS_PER_SECOND = 90_000

QUICK = {  # options of encoders
    "libx264": {"preset": "ultrafast", "crf": "12", "x264-params": "threads=1:open-gop=0"},
    "libx265": {"preset": "ultrafast", "crf": "12", "x265-params": "log-level=none:pools=1:frame-threads=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "1M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "1M"},
    "libsvtav1": {"preset": "13", "crf": "20", "svtav1-params": "lp=1"},
}

Picture = np.ndarray
Size = tuple[int, int]  # (width, height)


def draw_frame(index: int, size: Size = (128, 96)) -> Picture:
    """The upright BGR picture number `index` (0 to 65535)."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    edges = np.linspace(0, width, NUM_CELLS + 1).round().astype(int)
    for cell in range(NUM_CELLS):
        bit = index >> (NUM_CELLS - 1 - cell) & 1
        image[: height // 2, edges[cell] : edges[cell + 1]] = 255 * bit
    image[height // 2 :, : width // 2] = DARK
    image[height // 2 :, width // 2 :] = BRIGHT
    return image


def read_index(image_bgr: Picture) -> int:
    """The number drawn by `draw_frame`; ValueError if the picture is not upright or not one of ours."""
    height, width = image_bgr.shape[:2]
    grey = image_bgr.mean(axis=2)
    lower = grey[height // 2 + height // 8 : height - height // 8]
    left = lower[:, width // 8 : width * 3 // 8].mean()
    right = lower[:, width * 5 // 8 : width * 7 // 8].mean()
    if not (abs(left - DARK) < 35 and abs(right - BRIGHT) < 35):
        raise ValueError(f"the picture is not upright: lower half is {left:.0f} | {right:.0f}")
    row = grey[height // 8 : height * 3 // 8].mean(axis=0)
    centres = ((np.arange(NUM_CELLS) + 0.5) * width / NUM_CELLS).astype(int)
    return int("".join("1" if row[centre] > 127 else "0" for centre in centres), 2)


def make_video(
    path: Path,
    *,
    num_frames: int = 30,
    fps: Fraction | int = 30,  # constant rate, where no `times` are given
    size: Size = (128, 96),  # upright
    times: Sequence[float] | None = None,  # presentation time of each frame, seconds
    variable_rate: bool = False,  # the second half runs at 2/5 of `fps`
    rotation: int = 0,  # degrees that a player must apply, counter-clockwise; pixels are stored turned back
    mirrored: bool = False,  # the player must also mirror left to right; pixels are stored mirrored
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,  # of the encoder; by default quick and near lossless
    gop: int = 12,  # distance of key frames
    b_frames: int = 2,  # in a row
    first_index: int = 0,  # number drawn into the first frame
    truncated: float | None = None,  # keep only this share of the file's bytes
    faststart: bool = True,  # the index of an MP4 lies in front, so that a truncated file still has it
    audio: bool | float = False,  # add silence, as long as the pictures or for so many seconds
    aspect: Fraction | None = None,  # of the samples
    transfer: int | None = None,  # 16 = PQ, 18 = HLG: the same pictures as HDR in BT.2020
    interlaced: bool = False,  # each frame's lower field is of the next number, and the stream says so
    draw: Callable[[int, Size], Picture] = draw_frame,  # picture by (number, upright size), BGR
    container_options: dict[str, str] | None = None,  # of the muxer
) -> Path:
    """Write a clip and return its path; the suffix of the path chooses the container."""
    rate = Fraction(fps)
    if variable_rate:
        half = num_frames // 2
        steps = [1 / rate] * half + [Fraction(5, 2) / rate] * (num_frames - half)
        times = [float(sum(steps[:index])) for index in range(num_frames)]
    muxer = {"movflags": "+faststart"} if faststart and path.suffix in (".mp4", ".mov") else {}
    muxer |= container_options or {}
    with own_priority(), av.open(str(path), "w", options=muxer) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        quarter_turn = rotation % 180 == 90
        stream.width, stream.height = size[::-1] if quarter_turn else size
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.time_base = 1 / rate if times is None else Fraction(1, TICKS_PER_SECOND)
        context.gop_size = gop
        if codec.startswith("libx26"):
            context.max_b_frames = b_frames
        context.options = QUICK.get(codec, {}) if options is None else options
        if interlaced:
            context.options = context.options | {"flags": "+ildct+ilme"}
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if transfer is not None:
            context.color_trc = transfer
            context.color_primaries, context.colorspace = 9, Colorspace.BT2020
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        if audio:
            seconds = float(num_frames / rate) if audio is True else audio
            _add_silence(container, seconds, "libopus" if path.suffix == ".webm" else "aac")
        for offset in range(num_frames):
            image = _stored(draw(first_index + offset, size), rotation, mirrored)
            if interlaced:
                image[1::2] = _stored(draw(first_index + offset + 1, size), rotation, mirrored)[1::2]
            frame = _as_frame(image, transfer).reformat(format=pixel_format)
            frame.time_base = context.time_base
            frame.pts = offset if times is None else round(times[offset] * TICKS_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if truncated is not None:
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * truncated)])
    return path


@contextmanager
def own_priority() -> Iterator[None]:
    """Keeps this thread's scheduling: SVT-AV1 makes its caller real-time (as root), and what it starts."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _as_frame(image: Picture, transfer: int | None = None) -> av.VideoFrame:
    if transfer is None:
        return av.VideoFrame.from_ndarray(image, format="bgr24")
    pixels = bt2020_yuv(hdr_codes(image, transfer))
    return av.VideoFrame.from_ndarray(pixels, format="yuv444p16le", channel_last=True)


def _stored(upright: Picture, rotation: int, mirrored: bool) -> Picture:
    """The pixels that become `upright` when a player first rotates and then mirrors them."""
    image = upright[:, ::-1] if mirrored else upright
    return np.ascontiguousarray(np.rot90(image, k=-(rotation // 90)))


def _add_silence(container: av.container.OutputContainer, seconds: float, codec: str = "aac") -> None:
    stream = container.add_stream(codec, rate=48_000, layout="mono")
    assert isinstance(stream, av.AudioStream)
    for start in range(0, int(seconds * 48_000), 960):
        frame = av.AudioFrame(format=stream.format.name, layout="mono", samples=960)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts = 48_000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def make_audio(path: Path, *, seconds: float = 1.0, cover: bool = False) -> Path:
    """Write an audio file without video; with `cover`, a picture rides along as album art (.mp4 only)."""
    with av.open(str(path), "w") as container:
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            assert isinstance(art, av.VideoStream)
            art.width, art.height, art.pix_fmt = 64, 64, "yuvj420p"
            art.disposition = Disposition.attached_pic
        _add_silence(container, seconds)
        if cover:
            container.mux(art.encode(_as_frame(draw_frame(0, (64, 64))).reformat(format="yuvj420p")))
            container.mux(art.encode(None))
    return path


def make_still(path: Path, *, size: Size = (128, 96)) -> Path:
    """Write one picture; the suffix chooses the format, as OpenCV does (.png, .jpg, .webp)."""
    if not cv2.imwrite(str(path), draw_frame(0, size)):
        raise OSError(f"could not write {path.name}")
    return path


def damage(path: Path, *, start: float, end: float, num_bytes: int = 200, seed: int = 0) -> Path:
    """Overwrite random bytes between two shares of the file, the same ones for the same seed."""
    data = bytearray(path.read_bytes())
    source = random.Random(seed)
    first, last = int(len(data) * start), int(len(data) * end)
    for _ in range(num_bytes):
        data[source.randrange(first, last)] = source.randrange(256)
    path.write_bytes(data)
    return path


def join(path: Path, *parts: Path) -> Path:
    """Concatenate files byte by byte, which is how MPEG transport streams are spliced."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def cut_without_encoding(path: Path, source: Path, start_seconds: float) -> Path:
    """Copy the packets from the last key frame before a time; an edit list hides what lies before it."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as container:
        stream = whole.streams.video[0]
        copy = container.add_stream_from_template(stream)
        assert stream.time_base is not None
        start = round(start_seconds / stream.time_base)
        packets = [packet for packet in whole.demux(stream) if packet.pts is not None]
        keys = [at for at, packet in enumerate(packets) if packet.is_keyframe and (packet.pts or 0) <= start]
        for packet in packets[keys[-1] :]:
            assert packet.pts is not None
            assert packet.dts is not None
            packet.pts, packet.dts = packet.pts - start, packet.dts - start
            packet.stream = copy
            container.mux(packet)
    return path
