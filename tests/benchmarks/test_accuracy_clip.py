"""Scores of a whole clip on made-up people whose errors are known, and the table of scores."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.accuracy_clip import ClipScorer, FoundFrame, Scores, Tracked
from benchmarks.accuracy_pose import TrueBodies
from benchmarks.accuracy_scores import turned_to_axis
from benchmarks.accuracy_table import ANCHORS, COLUMNS, Row, anchor_line, head_line, line, unmet
from benchmarks.accuracy_tracking import TrackingScores
from benchmarks.clip_truth import ClipTruth

NUM_FRAMES, SIDE, FOCAL = 7, 120, 100.0
RATE = 25.0


class Puppet:
    """A `BodyModel` that the root turns, `betas[0]` makes larger, `betas[1]` moves beside its pelvis.

    `betas[2]` moves all of it, the pelvis too.
    """

    faces = np.array([[0, 1, 2]])
    points = np.random.default_rng(0).normal(0, 0.4, (44, 3))

    def _pose(self, orient, betas, num):
        points = np.concatenate([np.zeros((1, 3)), self.points])[:num] * (1 + betas[:, :1, None])
        beside = betas[:, 1, None, None] * np.array([1, 0, 0]) * (np.arange(num) > 0)[:, None]
        moved = beside + betas[:, 2, None, None]
        return (points @ orient[:, 0].swapaxes(1, 2) + moved).astype(np.float32)

    def joints(self, orient, pose, betas):
        return self._pose(orient, betas, 45)[:, 1:], self._pose(orient, betas, 24)

    def vertices(self, orient, pose, betas):
        return self._pose(orient, betas, 30)[:, 1:]


@pytest.fixture
def truth() -> ClipTruth:
    """Two people side by side who count, and a third of whom only a corner is seen."""
    owners = np.full((NUM_FRAMES, SIDE, SIDE), -1, np.int8)
    owners[:, 10:90, 5:35], owners[:, 20:100, 60:95], owners[:, 50:60, 105:118] = 0, 1, 2
    boxes = np.array([[5, 10, 35, 90], [60, 20, 95, 100], [105, 50, 118, 60]], np.float32)
    visible = np.tile(np.array([2400, 2800, 130], np.int32), (NUM_FRAMES, 1))
    own = visible + np.array([0, 200, 2000], np.int32)
    turns = Rotation.from_rotvec(np.linspace(0, 1, NUM_FRAMES)[:, None] * [0, 1, 0]).as_matrix()
    rotations = np.tile(np.eye(3), (NUM_FRAMES, 3, 24, 1, 1))
    rotations[:, :, 0] = turns[:, None]
    return ClipTruth(
        times=np.arange(NUM_FRAMES) / RATE,
        owners=owners,
        bbox_xyxy=np.tile(boxes, (NUM_FRAMES, 1, 1)),
        visible_pixels=visible,
        own_pixels=own,
        rotations=rotations.astype(np.float32),
        betas=np.zeros((3, 10), np.float32),
        translation=np.tile(np.array([[-2, 0, 5], [1, 0, 6], [3, 0, 6]], np.float32), (NUM_FRAMES, 1, 1)),
        focal_length_px=FOCAL,
    )


def perfect(truth: ClipTruth) -> list[FoundFrame]:
    """The two who count, exactly."""
    bodies = TrueBodies(truth, Puppet(), skin=False)
    return [
        FoundFrame(
            index=t,
            bbox_xyxy=truth.bbox_xyxy[t, :2].astype(np.float64),
            bodies=[bodies.of(t, person) for person in (0, 1)],
            masks=truth.masks(t)[:2],
        )
        for t in range(NUM_FRAMES)
    ]


def scores_of(frames: list[FoundFrame], truth: ClipTruth, tracks: list[Tracked] | None = None):
    """Scores of the people, or of those with tracks."""
    scorer = ClipScorer(frames, truth, Puppet())
    return scorer.detected() if tracks is None else scorer.tracked(tracks)


def scores_with(change, truth):
    """Scores of the true bodies with other fields; `change` gets frame number and body."""
    frames = [
        replace(frame, bodies=[replace(body, **change(t, body)) for body in frame.bodies])
        for t, frame in enumerate(perfect(truth))
    ]
    return scores_of(frames, truth)


def betas(larger=0.0, beside=0.0, moved=0.0) -> dict[str, np.ndarray]:
    """Shape coefficients, by what they do to a puppet."""
    return {"betas": np.array([larger, beside, moved] + [0] * 7, np.float32)}


def test_the_truth_itself_is_perfect(truth):
    """Everybody found, no error of any kind, with and without tracks."""
    scorer = ClipScorer(perfect(truth), truth, Puppet())
    tracks = [Tracked(rows=np.array([0, 1]), ids=np.array([4, 9]))] * NUM_FRAMES

    for scores in (scorer.detected(), scorer.tracked(tracks)):
        assert (scores.recall, scores.precision, scores.mask_iou) == (1, 1, 1)
        errors = (scores.mpjpe_mm, scores.pa_mpjpe_mm, scores.pve_mm, scores.pixels)
        assert errors == pytest.approx((0, 0, 0, 0), abs=1e-3)
        assert scores.acceleration_mm_s2 == pytest.approx(0, abs=0.5)
    assert scorer.tracked(tracks).tracking.hota == pytest.approx(1)
    assert scorer.detected().switches is None


def test_a_larger_body_is_off_in_place_and_not_after_alignment(truth):
    """A tenth larger: joints and skin are off by a tenth of their distance from the pelvis, PA by nothing."""
    scores = scores_with(lambda t, body: betas(larger=0.1), truth)

    distance = 1000 * np.linalg.norm(Puppet.points, axis=1)
    assert scores.mpjpe_mm == pytest.approx(0.1 * distance[25:39].mean(), rel=1e-3)
    assert scores.pve_mm == pytest.approx(0.1 * distance[:29].mean(), rel=1e-3)
    assert scores.pa_mpjpe_mm == pytest.approx(0, abs=1e-2)


def test_a_body_elsewhere_is_off_in_the_picture_alone(truth):
    """A metre to the right at 5 and 6 m with 100 px of focal length is about 18 px; its origin is free."""
    right = np.array([1, 0, 0], np.float32)
    elsewhere = scores_with(lambda t, body: {"translation": body.translation + right}, truth)
    moved = scores_with(lambda t, body: betas(moved=0.5), truth)

    assert elsewhere.pixels == pytest.approx(18.3, abs=1)
    assert moved.pixels > 5
    for scores in (elsewhere, moved):
        assert (scores.mpjpe_mm, scores.pve_mm) == pytest.approx((0, 0), abs=1e-2)


def test_a_body_as_its_crop_shows_it_has_no_error_along_the_ray(truth):
    """Turned from the viewing ray to the axis: an error before the camera, none along the ray or aligned."""

    def turned(t, body):
        rotations = body.rotations.copy()
        rotations[0] = turned_to_axis(body.translation.astype(np.float64)) @ rotations[0]
        return {"rotations": rotations}

    scores = scores_with(turned, truth)

    assert scores.mpjpe_mm > 50
    assert (scores.viewed_mm, scores.pa_mpjpe_mm) == pytest.approx((0, 0), abs=1e-2)


def test_trembling_joints_accelerate(truth):
    """A centimetre to and fro at 25 frames a second is 4 cm a frame squared, 25 m/s²."""
    scores = scores_with(lambda t, body: betas(beside=0.01 * (-1) ** t), truth)

    assert scores.mpjpe_mm == pytest.approx(10, rel=1e-2)
    assert scores.acceleration_mm_s2 == pytest.approx(40 * RATE**2, rel=1e-2)


def test_acceleration_needs_three_frames_in_a_row(truth):
    """With the middle frame's people missing there is no triple for the frames around it."""
    frames = perfect(truth)[:3]
    nobody = replace(frames[1], bbox_xyxy=np.zeros((0, 4)), bodies=[], masks=np.zeros((0, SIDE, SIDE), bool))
    scores = scores_of([frames[0], nobody, frames[2]], truth)

    assert np.isnan(scores.acceleration_mm_s2)
    assert scores.recall == pytest.approx(2 / 3)


def test_order_and_names_do_not_matter(truth):
    """The same people in another order, with other track ids, have the same scores."""
    frames = perfect(truth)
    turned = [
        replace(frame, bbox_xyxy=frame.bbox_xyxy[::-1], bodies=frame.bodies[::-1], masks=frame.masks[::-1])
        for frame in frames
    ]
    swap = [(1, 2), (1, 2), (2, 1), (2, 1), (2, 1), (2, 1), (2, 1)]
    first = [Tracked(rows=np.array([0, 1]), ids=np.array(ids)) for ids in swap]
    second = [Tracked(rows=np.array([1, 0]), ids=10 * np.array(ids)) for ids in swap]

    scores = scores_of(frames, truth, first)
    assert scores.switches == 2
    assert scores == scores_of(turned, truth, second)


def test_who_is_hardly_seen_changes_no_score(truth):
    """Found or not, in every frame or some, with a track or two: the third person counts for nothing."""
    frames = perfect(truth)
    with_third = [
        replace(
            frame,
            bbox_xyxy=truth.bbox_xyxy[frame.index].astype(np.float64),
            bodies=[*frame.bodies, frame.bodies[0]],
            masks=truth.masks(frame.index),
        )
        for frame in frames
    ]
    two = [Tracked(rows=np.array([0, 1]), ids=np.array([1, 2]))] * NUM_FRAMES
    three = [Tracked(rows=np.array([2, 0, 1]), ids=np.array([3 + t % 2, 1, 2])) for t in range(NUM_FRAMES)]

    assert scores_of(with_third, truth) == scores_of(frames, truth)
    assert scores_of(with_third, truth, three) == scores_of(frames, truth, two)


def test_people_without_a_track_are_missed(truth):
    """Found but not followed: recall falls, precision does not."""
    tracks = [Tracked(rows=np.array([1]), ids=np.array([1]))] * NUM_FRAMES
    scores = scores_of(perfect(truth), truth, tracks)

    assert (scores.recall, scores.precision) == (0.5, 1)
    assert scores.idf1 == pytest.approx(2 / 3)


TRACKING = TrackingScores(idf1=0.95, hota=0.8, det_a=0.8, ass_a=0.8, switches=2, mota=0.9)
GOOD = Scores(
    recall=0.9,
    precision=0.95,
    mask_iou=math.nan,
    mpjpe_mm=100.0,
    viewed_mm=80.0,
    pa_mpjpe_mm=50.0,
    pve_mm=120.0,
    pixels=7.0,
    acceleration_mm_s2=50_000.0,
    tracking=TRACKING,
)
OVERLAP = replace(GOOD, tracking=replace(TRACKING, switches=8))


def test_lines_stand_under_their_heads():
    """Every row is as wide as the head, and what there is no number for is a dot."""
    tracked, untracked = line(Row("PHALP", GOOD)), line(Row("found", replace(GOOD, tracking=None)))

    assert len(tracked) == len(untracked) == len(head_line())
    errors, identities = "100.0 80.0 50.0 120.0 7.0 50.0", "0.950 0.800 0.800 0.800 2 0.900"
    assert " ".join(tracked.split()) == f"PHALP 0.900 0.950 · {errors} {identities}"
    assert untracked.split()[-6:] == ["·"] * 6


def test_anchors_name_columns_of_the_table():
    """No number from elsewhere is lost by a misspelt column."""
    heads = {column.head for column in COLUMNS}
    for anchor in ANCHORS:
        assert set(anchor[1]) <= heads
        assert anchor[2] in anchor_line(anchor)


def test_unmet_says_what_is_missing():
    """Good scores miss nothing; each that is not good is named; no score at all is not good either."""
    bad = replace(GOOD, recall=0.5, pa_mpjpe_mm=math.nan, tracking=replace(TRACKING, switches=3))

    assert unmet(GOOD, OVERLAP) == []
    assert [text.split()[0] for text in unmet(bad, OVERLAP)] == ["recall", "pa_mpjpe_mm", "3"]
