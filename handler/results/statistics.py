"""Numbers about a whole video, gathered frame by frame in bounded memory. Knows nothing of files."""

import heapq
from dataclasses import dataclass, replace

from handler.records import TrackedFrame
from handler.results.document import Quality, TrackInfo
from handler.results.track_record import TrackRecord

MAX_TRACKS = 150  # keeps result.json below 100 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """When the kept frames were.

    Attributes:
        frames: how many.
        start_s, end_s: times of the first and the last one.
        duration_s: up to the end of the last one, which is taken to last as long as the mean.
        last_source_index: decode index of the last one; -1 without frames.
        is_vfr: they are not evenly spaced.
        width, height: size of the first one, pixels.
    """

    frames: int
    start_s: float
    end_s: float
    duration_s: float
    last_source_index: int
    is_vfr: bool
    width: int
    height: int


class Statistics:
    """Counts, identities and spacing of the frames it is shown.

    Memory: the live tracks, and the `MAX_TRACKS` longest of the finished ones.

    Args:
        forget_frames: a track that was absent for longer never comes back.
    """

    def __init__(self, *, forget_frames: int) -> None:
        self._forget_frames = forget_frames
        self._live: dict[int, TrackRecord] = {}
        self._finished: list[tuple[int, int, TrackInfo]] = []  # heap: the shortest first
        self._first: TrackedFrame | None = None
        self._last: TrackedFrame | None = None
        self._frames = self._frames_with_people = self._shots = self._corrupt = 0
        self._tracked = self._predicted = self._unassigned = 0
        self._births = self._gaps = self._num_jitter = 0
        self._score_sum = self._jitter_sum = 0.0
        self._gap_ticks: tuple[int, int] | None = None  # smallest, largest

    def add(self, frame: TrackedFrame) -> None:
        """Take the next frame in."""
        if self._last is not None:
            ticks = frame.pts - self._last.pts
            low, high = self._gap_ticks or (ticks, ticks)
            self._gap_ticks = min(low, ticks), max(high, ticks)
        self._first = self._first or replace(frame, people=())
        self._last = frame
        self._frames += 1
        self._shots += frame.shot
        self._corrupt += frame.is_corrupt
        measured = 0
        for tracked in frame.people:
            record = self._live.get(tracked.track_id)
            if record is None:
                record = self._live[tracked.track_id] = TrackRecord(tracked.track_id, frame.frame_index)
                self._births += 1
            record.add(tracked, frame.frame_index, frame.pts_seconds)
            measured += tracked.state == "tracked"
        self._tracked += measured
        self._predicted += len(frame.people) - measured
        self._unassigned += max(frame.num_detected - measured, 0)
        self._frames_with_people += measured > 0
        gone = frame.frame_index - self._forget_frames
        for record in [record for record in self._live.values() if record.last_frame < gone]:
            self._finish(record)

    def _finish(self, record: TrackRecord) -> None:
        del self._live[record.track_id]
        self._gaps += record.gaps
        self._score_sum += record.score_sum
        self._jitter_sum += record.jitter_sum
        self._num_jitter += record.num_jitter
        heapq.heappush(self._finished, (record.num_tracked, -record.track_id, record.info()))
        if len(self._finished) > MAX_TRACKS:
            heapq.heappop(self._finished)

    def finish(self) -> tuple[Quality, tuple[TrackInfo, ...]]:
        """The numbers, and the longest tracks by id; call it once, after the last frame."""
        for record in list(self._live.values()):
            self._finish(record)
        quality = Quality(
            frames_with_people=self._frames_with_people,
            person_frames_tracked=self._tracked,
            person_frames_predicted=self._predicted,
            id_births=self._births,
            gaps=self._gaps,
            detections_unassigned=self._unassigned,
            mean_score=round(self._score_sum / self._tracked, 4) if self._tracked else None,
            jitter_m_s3=round(self._jitter_sum / self._num_jitter, 3) if self._num_jitter else None,
            shots=self._shots,
            corrupt_frames=self._corrupt,
        )
        tracks = sorted((info for _, _, info in self._finished), key=lambda info: info.track_id)
        return quality, tuple(tracks)

    def timeline(self) -> Timeline:
        """When the frames were; zeros without frames."""
        first, last = self._first, self._last
        if first is None or last is None:
            return Timeline(
                frames=0,
                start_s=0.0,
                end_s=0.0,
                duration_s=0.0,
                last_source_index=-1,
                is_vfr=False,
                width=0,
                height=0,
            )
        span = last.pts_seconds - first.pts_seconds
        return Timeline(
            frames=self._frames,
            start_s=first.pts_seconds,
            end_s=last.pts_seconds,
            duration_s=span * self._frames / (self._frames - 1) if self._frames > 1 else 0.0,
            last_source_index=last.source_index,
            is_vfr=self._is_vfr(first, last),
            width=first.width,
            height=first.height,
        )

    def _is_vfr(self, first: TrackedFrame, last: TrackedFrame) -> bool:
        if self._gap_ticks is None:
            return False
        low, high = self._gap_ticks
        mean = (last.pts - first.pts) / (self._frames - 1)
        # One tick is rounding to the time base (29.97 frames/s in milliseconds), unless a tick is a frame.
        return high - low > 1 or high - low > mean / 2
