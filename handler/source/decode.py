"""Turns a local video into frames with exact times, one at a time.

Decoding runs in this process, in its own thread. A child process would protect the worker from a crash inside
FFmpeg, but every frame would have to be copied between processes. The lists of containers and codecs in
`container.py`, limits on pixels, and a first frame decoded before any GPU work keep that risk small; the
platform replaces a worker that dies.
"""

import math
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise

import av

from handler.context import Check, unstoppable
from handler.errors import ErrorCode, InputError, SourceError
from handler.records import Frame, FrameInfo, VideoFacts, Warn
from handler.settings import IntakeSettings
from handler.source.container import check_pixels
from handler.source.packets import ReadTally, read_pictures
from handler.source.picture import Renderer, complete_tags, fit, square_size, treatments
from handler.source.probe import too_long
from handler.source.seek import INDEXED_CONTAINERS, find_start
from handler.source.timestamps import USUAL_FPS, TimestampRepair

QUEUE_BYTES = 512 * 1024**2  # waiting frames never take more, however large one is
MAX_REORDER = 16  # frames that H.264 and HEVC may store before one that is shown earlier
TIME_TOLERANCE_SECONDS = 1e-6  # so that start_s=0.1 takes the frame at 3/30 s


@dataclass(slots=True)
class DecodeReport:
    """What decoding found out; final once the iterator is exhausted, and ahead of the frames until then."""

    num_decoded: int = 0  # frames, kept or not
    num_kept: int = 0
    num_corrupt: int = 0  # decoded frames that the decoder marked as damaged
    reached_end: bool = False  # nothing of the wanted part was missing at the end of the file
    warnings: list[Warn] = field(default_factory=list)  # in order of discovery


def decode(
    facts: VideoFacts,
    settings: IntakeSettings,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    stride: int = 1,
    check: Check = unstoppable,
    report: DecodeReport | None = None,
) -> Generator[Frame]:
    """The frames with `start_s` <= time < `end_s` (default: the end), every `stride`-th of them.

    Times are in seconds after the file's first frame. What lies before `start_s` is decoded only if need be.
    `check` is called for every packet; what it raises is passed on. `report` is filled in on the way.

    Memory: one frame, and a few more that the decoder holds. Closing the iterator closes the file.

    Raises:
        InputError: VIDEO_TOO_LONG, VIDEO_TOO_LARGE.
        SourceError: VIDEO_HAS_NO_FRAMES, VIDEO_UNREADABLE.
    """
    start_s -= TIME_TOLERANCE_SECONDS
    end_s = math.inf if end_s is None else end_s - TIME_TOLERANCE_SECONDS
    renderer = Renderer(facts.tags.pixel_aspect)
    selection = _Selection(facts, settings, start_s, end_s, stride, report or DecodeReport(), renderer)
    return selection.frames(check)


def frames_ahead(facts: VideoFacts, most: int) -> int:
    """How many decoded frames may wait: the given number, but no more than 512 MiB of them."""
    return max(1, min(most, QUEUE_BYTES // max(facts.width * facts.height * 3, 1)))


@dataclass(frozen=True, slots=True)
class _Selection:
    """One pass over a file that picks the wanted frames and fills in the report."""

    facts: VideoFacts
    settings: IntakeSettings
    start_s: float
    end_s: float
    stride: int
    report: DecodeReport
    renderer: Renderer

    def frames(self, check: Check) -> Generator[Frame]:
        facts, report = self.facts, self.report
        start = find_start(facts, self.start_s, self.settings, check)
        timestamps = TimestampRepair(
            facts.time_base,
            facts.average_fps,
            facts.first_pts if start else None,
            may_restart=facts.container not in INDEXED_CONTAINERS,
            may_leap=facts.container == "mpegts",
        )
        tally = ReadTally()
        seconds, num_in_part, source_index = 0.0, 0, -1
        latest: deque[tuple[float, bool]] = deque(maxlen=MAX_REORDER + 1)
        with closing(read_pictures(facts, self.settings, check, tally, start)) as pictures:
            for source_index, picture in pictures:
                report.num_decoded += 1
                report.num_corrupt += picture.is_corrupt
                pts, seconds = timestamps.place(picture.pts)
                # Several threads do not always mark the picture of a packet that was cut short.
                is_cut = tally.at_end and tally.num_behind == 0 and tally.is_last_partial
                latest.append((seconds, picture.is_corrupt or is_cut))
                if seconds >= self.end_s:
                    break
                if seconds < self.start_s:
                    continue
                if num_in_part % self.stride == 0:
                    self._check_length(seconds)
                    yield self._frame(picture, source_index, pts, seconds)
                num_in_part += 1
                del picture  # not held while the next one is decoded
            else:
                self._warn_of_missing(source_index + 1, len(tally.hidden))
        report.reached_end = self._is_complete(tally, latest)
        self._warn_of_damage(timestamps, tally, seconds)

    def _is_complete(self, tally: ReadTally, latest: Sequence[tuple[float, bool]]) -> bool:
        """Whether nothing is missing before `end_s`, where the file may break off.

        A frame shown before `end_s` may be stored behind one shown after it, so one proves nothing.
        `latest` has (seconds, may be damaged) of the last frames, in the order in which they are shown.
        """
        if not (tally.broke_off or self.facts.is_cut_off):
            return True
        if not latest:
            return False
        last = latest[-1][0]
        if last >= self.end_s and (not tally.at_end or tally.num_behind > MAX_REORDER):
            return True
        step = 1 / (self.facts.average_fps or USUAL_FPS)
        is_even = all(later - earlier < 1.5 * step for (earlier, _), (later, _) in pairwise(latest))
        is_sound = not any(is_corrupt for seconds, is_corrupt in latest if seconds < self.end_s)
        return is_even and is_sound and last + 1.5 * step >= self.end_s

    def _check_length(self, seconds: float) -> None:
        if seconds - self.start_s > self.settings.max_duration_seconds:
            raise too_long(self.settings)
        if self.report.num_kept >= self.settings.max_frames:
            message = f"the part has more frames than this worker's limit of {self.settings.max_frames}"
            raise InputError(ErrorCode.VIDEO_TOO_LONG, message)

    def _frame(self, picture: av.VideoFrame, source_index: int, pts: int, seconds: float) -> Frame:
        tags = self.facts.tags
        check_pixels(*square_size(picture.width, picture.height, tags.pixel_aspect), self.settings)
        complete_tags(picture, tags)
        frame_index = self.report.num_kept
        for code, message in treatments(picture):
            self._warn_once(code, message, frame_index)
        image = self.renderer.render(picture)
        width, height = self.facts.width, self.facts.height
        if image.shape != (height, width, 3):
            message = f"the picture changes size; it was fitted into {width} x {height}"
            self._warn_once("SIZE_CHANGED", message, frame_index)
            image = fit(image, width, height)
        self.report.num_kept += 1
        info = FrameInfo(
            frame_index=frame_index,
            source_index=source_index,
            pts=pts,
            pts_seconds=seconds,
            width=width,
            height=height,
            is_corrupt=picture.is_corrupt,
        )
        return Frame(info=info, image_bgr=image)

    def _warn_once(self, code: str, message: str, frame_index: int | None = None) -> None:
        if all(earlier.code != code for earlier in (*self.facts.warnings, *self.report.warnings)):
            self.report.warnings.append(Warn(code=code, message=message, frame_index=frame_index))

    def _warn_of_damage(self, timestamps: TimestampRepair, tally: ReadTally, last_seconds: float) -> None:
        report, num_pieces = self.report, len(tally.damaged)
        if tally.broke_off and not report.reached_end:
            self._warn_once("VIDEO_ENDED_EARLY", f"the file cannot be read beyond {last_seconds:.2f} s")
        if report.num_corrupt or num_pieces:
            lost = f"{num_pieces} pieces of the file could not be decoded"
            self._warn_once("FRAMES_CORRUPT", f"{report.num_corrupt} frames are damaged and {lost}")
        if self.facts.in_decode_order:
            message = "the file only says when frames are decoded; when they are shown follows from that"
            self._warn_once("TIMESTAMPS_REPAIRED", message)
        elif timestamps.num_repaired:
            self._warn_once("TIMESTAMPS_REPAIRED", f"{timestamps.num_repaired} timestamps were repaired")
        if report.num_kept == 0:
            message = "no frame of the video can be decoded"
            if report.num_decoded:
                message = f"there is no frame in this part of the video; it ends at {last_seconds:.2f} s"
            raise SourceError(ErrorCode.VIDEO_HAS_NO_FRAMES, message)

    def _warn_of_missing(self, num_frames: int, num_hidden: int) -> None:
        announced = (self.facts.num_frames_announced or num_hidden) - num_hidden
        if announced - num_frames > max(1, announced // 100):  # headers may be off by one
            message = f"the file's index lists {announced} frames to show, {num_frames} could be decoded"
            self._warn_once("FRAMES_MISSING", message)
