"""Numbers about a whole video, gathered frame by frame in bounded memory."""

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from handler.records import FrameInfo, TrackedFrame, TrackedPeople
from handler.results.document import Quality, TrackInfo

MAX_TRACKS = 150  # keeps result.json below 100 kB
MAX_SAMPLES = 64  # shapes kept of an identity


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameSpan:
    """When the kept frames were: the times of the first and the last one, and the last one's decode index.

    `duration_s` goes to the end of the last one, which is taken to last as long as the mean; with `is_vfr`
    they are not evenly spaced.
    """

    frames: int = 0
    start_s: float = 0.0
    end_s: float = 0.0
    duration_s: float = 0.0
    last_source_index: int = -1
    is_vfr: bool = False


class ThinnedSamples:
    """At most `MAX_SAMPLES` vectors out of any number, evenly spaced: all at first, then every 2nd, 4th, ...

    Chosen over a random reservoir because the same input must give the same result, and over running
    quantiles because short tracks, which are most of them, get their exact median.
    """

    def __init__(self) -> None:
        self._samples: list[Float32[ndarray, " d"]] = []
        self._step = 1
        self._num_seen = 0

    def add(self, sample: Float32[ndarray, " d"]) -> None:
        """Take the next vector in; it may be dropped, now or later."""
        if self._num_seen % self._step == 0:
            self._samples.append(sample)
        if len(self._samples) > MAX_SAMPLES:
            self._samples = self._samples[::2]
            self._step *= 2
        self._num_seen += 1

    def median(self) -> tuple[float, ...] | None:
        """Per component, to 4 decimals; None without samples."""
        if not self._samples:
            return None
        return tuple(np.median(self._samples, axis=0).astype(np.float64).round(4).tolist())


class TrackRecord:
    """One identity's numbers so far: a few scalars, `MAX_SAMPLES` shapes, the joints of four frames."""

    def __init__(self, track_id: int, frame_index: int) -> None:
        self.track_id = track_id
        self.first_frame = self.last_frame = frame_index
        self.num_tracked = self.num_predicted = self.gaps = 0
        self.score_sum = 0.0
        self.jitter_sum, self.num_jitter = 0.0, 0
        self._betas = ThinnedSamples()
        self._recent: deque[tuple[float, Float32[ndarray, "24 3"]]] = deque(maxlen=4)
        self._last_tracked = frame_index

    def add(self, people: TrackedPeople, row: int, info: FrameInfo) -> None:
        """Take the identity's next frame in; `row` says who it is."""
        self.last_frame = info.frame_index
        if people.frames_since_seen[row]:
            self.num_predicted += 1
            return
        if info.frame_index > self._last_tracked + 1:
            self.gaps += 1
            self._recent.clear()
        self._last_tracked = info.frame_index
        self.num_tracked += 1
        self.score_sum += float(people.scores[row])
        self._betas.add(people.betas[row].copy())  # a view would keep the whole frame alive
        joints = people.smpl_joints_3d[row]
        # About the pelvis: the assumed camera makes the place of a body far noisier than its pose.
        self._recent.append((info.pts_seconds, joints - joints[:1]))
        if len(self._recent) == 4:
            times, (a, b, c, d) = zip(*self._recent, strict=True)
            step = (times[3] - times[0]) / 3
            self.jitter_sum += float(np.linalg.norm(d - 3 * c + 3 * b - a, axis=1).mean()) / step**3
            self.num_jitter += 1

    def info(self) -> TrackInfo:
        """What the summary says of the identity."""
        return TrackInfo(
            track_id=self.track_id,
            first_frame=self.first_frame,
            last_frame=self.last_frame,
            n_tracked=self.num_tracked,
            n_predicted=self.num_predicted,
            gaps=self.gaps,
            mean_score=round(self.score_sum / self.num_tracked, 4) if self.num_tracked else None,
            betas_median=self._betas.median(),
        )


class Statistics:
    """Counts, identities and spacing of the frames it is shown, which must be all of them, in order.

    A track that was absent for more than `forget_frames` never comes back.
    Memory: the live tracks, and the `MAX_TRACKS` longest of the finished ones.
    """

    def __init__(self, *, forget_frames: int) -> None:
        self._forget_frames = forget_frames
        self._live: dict[int, TrackRecord] = {}
        self._finished: list[tuple[int, int, TrackInfo]] = []  # heap: the shortest first
        self._first: FrameInfo | None = None
        self._last: FrameInfo | None = None
        self._frames_with_people = self._shots = self._corrupt = 0
        self._tracked = self._predicted = self._unassigned = 0
        self._births = self._gaps = self._num_jitter = 0
        self._score_sum = self._jitter_sum = 0.0
        self._gap_ticks: tuple[int, int] | None = None  # smallest, largest

    def add(self, frame: TrackedFrame) -> None:
        """Take the next frame in."""
        info, people = frame.info, frame.people
        if self._last is not None:
            ticks = info.pts - self._last.pts
            low, high = self._gap_ticks or (ticks, ticks)
            self._gap_ticks = min(low, ticks), max(high, ticks)
        self._first = self._first or info
        self._last = info
        self._shots += info.shot
        self._corrupt += info.is_corrupt
        for row, track_id in enumerate(people.track_ids.tolist()):
            record = self._live.get(track_id)
            if record is None:
                record = self._live[track_id] = TrackRecord(track_id, info.frame_index)
                self._births += 1
            record.add(people, row, info)
        measured = int(people.measured.sum())
        self._tracked += measured
        self._predicted += len(people) - measured
        self._unassigned += max(frame.num_detected - measured, 0)
        self._frames_with_people += measured > 0
        gone = info.frame_index - self._forget_frames
        for record in list(self._live.values()):
            if record.last_frame < gone:
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

    def span(self) -> FrameSpan:
        """When the frames were."""
        first, last = self._first, self._last
        if first is None or last is None:
            return FrameSpan()
        frames, gaps = last.frame_index + 1, max(last.frame_index, 1)
        low, high = self._gap_ticks or (0, 0)
        return FrameSpan(
            frames=frames,
            start_s=first.pts_seconds,
            end_s=last.pts_seconds,
            duration_s=(last.pts_seconds - first.pts_seconds) * frames / gaps,
            last_source_index=last.source_index,
            # One tick is rounding to the time base (29.97 frames/s in milliseconds), unless it is a frame.
            is_vfr=high - low > min(1, (last.pts - first.pts) / gaps / 2),
        )
