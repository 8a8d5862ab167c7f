"""Running facts of one identity, in bounded memory. Knows nothing of files or of other people."""

from collections import deque

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from handler.records import TrackedPerson
from handler.results.document import TrackInfo

MAX_SAMPLES = 64


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
            if len(self._samples) == MAX_SAMPLES:
                self._samples = self._samples[::2]
                self._step *= 2
            if self._num_seen % self._step == 0:
                self._samples.append(sample)
        self._num_seen += 1

    def median(self) -> Float32[ndarray, " d"] | None:
        """Per component; None without samples."""
        if not self._samples:
            return None
        middle: Float32[ndarray, " d"] = np.median(self._samples, axis=0).astype(np.float32)
        return middle


class TrackRecord:
    """One identity's numbers so far: a few scalars, `MAX_SAMPLES` shapes, the joints of three frames."""

    def __init__(self, track_id: int, frame_index: int) -> None:
        self.track_id = track_id
        self.first_frame = self.last_frame = frame_index
        self.num_tracked = self.num_predicted = self.gaps = 0
        self.score_sum = 0.0
        self.jitter_sum, self.num_jitter = 0.0, 0
        self._betas = ThinnedSamples()
        self._recent: deque[tuple[float, Float32[ndarray, "24 3"]]] = deque(maxlen=4)
        self._last_tracked = frame_index

    def add(self, tracked: TrackedPerson, frame_index: int, time_s: float) -> None:
        """Take the person's next frame in."""
        self.last_frame = frame_index
        if tracked.state == "predicted":
            self.num_predicted += 1
            return
        if frame_index > self._last_tracked + 1:
            self.gaps += 1
            self._recent.clear()
        self._last_tracked = frame_index
        self.num_tracked += 1
        self.score_sum += tracked.person.score
        self._betas.add(tracked.person.betas.copy())  # a view would keep its whole batch alive
        joints = tracked.person.smpl_joints_3d
        # About the pelvis: the assumed camera makes the place of a body far noisier than its pose.
        self._recent.append((time_s, joints - joints[:1]))
        if len(self._recent) == 4:
            self._add_jitter()

    def _add_jitter(self) -> None:
        times, joints = zip(*self._recent, strict=True)
        step = (times[3] - times[0]) / 3
        third = joints[3] - 3 * joints[2] + 3 * joints[1] - joints[0]
        self.jitter_sum += float(np.sqrt(np.square(third).sum(axis=1)).mean()) / step**3
        self.num_jitter += 1

    def info(self) -> TrackInfo:
        """What the summary says of the identity."""
        median = self._betas.median()
        return TrackInfo(
            track_id=self.track_id,
            first_frame=self.first_frame,
            last_frame=self.last_frame,
            n_tracked=self.num_tracked,
            n_predicted=self.num_predicted,
            gaps=self.gaps,
            mean_score=round(self.score_sum / self.num_tracked, 4) if self.num_tracked else None,
            betas_median=None if median is None else tuple(round(float(x), 4) for x in median),
        )
