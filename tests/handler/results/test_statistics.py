"""The summary's numbers are those of the frames."""

import numpy as np
import pytest

from handler.results.statistics import MAX_SAMPLES, MAX_TRACKS, Statistics, ThinnedSamples
from tests.handler.results.factories import make_frame, make_person, predicted, tracked


def gathered(frames, *, forget_frames: int = 55) -> Statistics:
    """Statistics that have seen the frames."""
    statistics = Statistics(forget_frames=forget_frames)
    for frame in frames:
        statistics.add(frame)
    return statistics


def test_counts_are_those_of_the_frames():
    """People measured, lost, found again and never assigned are counted."""
    one, two = make_person(1), make_person(2, scores=np.array([0.8], np.float32))
    frames = [
        make_frame(0, tracked(1, one), num_detected=3),
        make_frame(1, tracked(1, one), tracked(2, two)),
        make_frame(2, predicted(1, one), tracked(2, two)),
        make_frame(3, tracked(1, one), tracked(2, two), shot=True),
        make_frame(4, predicted(1, one), predicted(2, two), is_corrupt=True),
        make_frame(5),
    ]

    quality, tracks = gathered(frames).finish()

    assert (quality.person_frames_tracked, quality.person_frames_predicted) == (6, 3)
    assert (quality.frames_with_people, quality.id_births, quality.gaps) == (4, 2, 1)
    assert (quality.detections_unassigned, quality.shots, quality.corrupt_frames) == (2, 1, 1)
    assert quality.mean_score == pytest.approx(0.85)
    assert [
        (t.track_id, t.first_frame, t.last_frame, t.n_tracked, t.n_predicted, t.gaps) for t in tracks
    ] == [
        (1, 0, 4, 3, 2, 1),
        (2, 1, 4, 3, 1, 0),
    ]


def test_jitter_is_the_third_derivative():
    """A body whose joints follow t^3 about the pelvis has a third derivative of 6."""
    direction = np.zeros((24, 3), np.float32)
    direction[1:, 0] = 1

    def body(time: float):
        return make_person(0, smpl_joints_3d=(direction * time**3).astype(np.float32)[None])

    frames = [make_frame(i, tracked(1, body(i * 512 / 15360))) for i in range(60)]

    quality, _ = gathered(frames).finish()

    assert quality.jitter_m_s3 == pytest.approx(6 * 23 / 24, rel=0.05)


def test_median_shape_is_exact_for_short_tracks():
    """Up to 64 measurements the median is the median."""
    frames = [make_frame(i, tracked(1, make_person(i))) for i in range(41)]

    _, (track,) = gathered(frames).finish()

    exact = np.median([make_person(i).betas[0] for i in range(41)], axis=0)
    assert track.betas_median == pytest.approx(exact.tolist(), abs=1e-4)


def test_thinned_samples_stay_bounded_and_spread():
    """Of any number at most 64 are kept, from the whole span, and the median stays close."""
    samples = ThinnedSamples()
    for i in range(10_000):
        samples.add(np.array([i], np.float32))

    kept = [int(sample[0]) for sample in samples._samples]

    assert MAX_SAMPLES / 2 <= len(kept) <= MAX_SAMPLES
    assert kept[0] == 0
    assert len(set(np.diff(kept).tolist())) == 1
    assert samples.median()[0] == pytest.approx(5000, rel=0.02)


def test_thousands_of_tracks_keep_the_longest():
    """All are counted, the longest are listed by id, and memory holds no more than those."""
    statistics = Statistics(forget_frames=3)
    person = make_person()
    frame_index, long_ids = 0, set(range(100, 2000, 20))
    for track_id in range(1, 2001):
        for _ in range(3 if track_id in long_ids else 1):
            statistics.add(make_frame(frame_index, tracked(track_id, person)))
            frame_index += 1

    assert len(statistics._live) <= 5
    quality, tracks = statistics.finish()
    assert quality.id_births == 2000
    assert quality.person_frames_tracked == frame_index
    assert len(tracks) == MAX_TRACKS
    assert long_ids <= {track.track_id for track in tracks}
    assert [track.track_id for track in tracks] == sorted(track.track_id for track in tracks)


@pytest.mark.parametrize(
    ("pts", "is_vfr"),
    [
        ([0, 512, 1024, 1536], False),
        ([0, 33, 67, 100, 133], False),  # 29.97 frames/s in milliseconds
        ([0, 1, 2, 4, 5], True),  # a dropped frame where a tick is a frame
        ([0, 512, 1536, 2048], True),
        ([0], False),
    ],
    ids=["even", "rounded", "dropped", "uneven", "single"],
)
def test_variable_rate_is_seen(pts, is_vfr):
    """Rounding to the time base is not a variable rate; a longer gap is."""
    frames = [make_frame(i, pts=tick, pts_seconds=tick / 15360) for i, tick in enumerate(pts)]

    assert gathered(frames).span().is_vfr == is_vfr


def test_span_is_that_of_the_kept_frames():
    """First, last, the decode index and the duration with the last frame's own length."""
    span = gathered(make_frame(i, source_index=i * 3 + 5) for i in range(31)).span()

    assert (span.frames, span.start_s, span.end_s) == (31, 0, pytest.approx(1.0))
    assert span.duration_s == pytest.approx(31 / 30)
    assert span.last_source_index == 95
