"""A folder of pictures as a video, for `track`."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from handler.errors import ErrorCode, InputError, SourceError
from handler.settings import IntakeSettings

DEFAULT_FPS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """JPEG files, at least one, that are the frames of a video, `fps` of them a second."""

    files: tuple[Path, ...]
    fps: float

    def video(self, into: Path) -> Path:
        """A video file of the pictures as they are, nothing encoded anew.

        Raises:
            SourceError: VIDEO_UNREADABLE, the first one is no JPEG picture, or one cannot be read.
        """
        rate = Fraction(self.fps).limit_denominator(1001)
        options = {"video_track_timescale": str(rate.numerator)}
        path = into / "pictures.mov"
        try:
            with (
                av.open(str(self.files[0].resolve()), format="jpeg_pipe") as first,
                av.open(str(path), "w", options=options) as video,
            ):
                stream = video.add_stream_from_template(first.streams.video[0])
                for index, file in enumerate(self.files):
                    packet = av.Packet(file.read_bytes())
                    packet.stream, packet.time_base = stream, 1 / rate
                    packet.pts = packet.dts = index
                    packet.duration, packet.is_keyframe = 1, True
                    video.mux(packet)
        except OSError as error:
            reason = f"the pictures cannot be copied: {error.strerror}"
            raise SourceError(ErrorCode.VIDEO_UNREADABLE, reason) from error
        except av.FFmpegError as error:
            raise SourceError(ErrorCode.VIDEO_UNREADABLE, f"{self.files[0]} is no JPEG picture") from error
        return path


def pictures_in(folder: Path, fps: float | None, settings: IntakeSettings) -> Pictures:
    """The JPEG files of a folder, in natural order: 2.jpg comes before 10.jpg.

    Raises:
        SourceError: VIDEO_UNREADABLE, there are none.
        InputError: VIDEO_TOO_LARGE, together they are larger than a video may be.
    """
    files = [path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")]
    if not files:
        message = (
            f"the folder holds no .jpg files; make a video of other pictures, as in: "
            f'ffmpeg -framerate {DEFAULT_FPS:g} -pattern_type glob -i "{folder}/*.png" -crf 12 clip.mp4'
        )
        raise SourceError(ErrorCode.VIDEO_UNREADABLE, message)
    if sum(path.stat().st_size for path in files) > settings.max_bytes:
        message = f"the pictures are larger than this worker's limit of {settings.max_bytes} bytes"
        raise InputError(ErrorCode.VIDEO_TOO_LARGE, message)
    return Pictures(files=tuple(sorted(files, key=_natural)), fps=fps or DEFAULT_FPS)


def _natural(path: Path) -> list[int | str]:
    parts = re.split(r"(\d+)", path.name)  # text and numbers take turns
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
