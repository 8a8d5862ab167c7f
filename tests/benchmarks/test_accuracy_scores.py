"""Overlaps, pairs, alignments, distances and who is judged: cases whose answers are known, and SciPy."""

import numpy as np
import pytest
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.transform import Rotation

from benchmarks.accuracy_matching import judge
from benchmarks.accuracy_scores import (
    acceleration,
    box_iou,
    mask_iou,
    match,
    mean_distance,
    procrustes,
    turned_to_axis,
)
from benchmarks.clip_truth import read_truth
from tests.model_cache.lite.shipped_clip import CLIP


def test_overlaps_have_their_areas():
    """Half-covered boxes and masks: a third; apart: nothing; the same: one."""
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    masks = np.zeros((3, 32, 32), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    expected = np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])

    assert np.allclose(expected, box_iou(boxes, boxes))
    assert np.allclose(expected, mask_iou(masks, masks))
    assert mask_iou(masks, masks[:0]).shape == box_iou(boxes, boxes[:0]).shape == (3, 0)


def test_match_takes_the_best_total_above_the_floor():
    """The greedy pair is given up where another choice is better for all."""
    assert sorted(match(np.array([[0.9, 0.8], [0.85, 0.1]]), 0.5)) == [(0, 1), (1, 0)]
    assert match(np.array([[0.4]]), 0.5) == []


def test_procrustes_is_scipys():
    """On noisy copies the remaining error is SciPy's, in its units; a mirrored one is not turned around."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        points = rng.normal(size=(14, 3))
        turned = points @ Rotation.random(rng=rng).as_matrix()
        other = 1.7 * turned + 0.3 * rng.normal(size=(14, 3)) + [1, -2, 3]
        _, _, disparity = scipy_procrustes(points, other)  # both at unit size, reflections allowed
        unit = np.linalg.norm(points - points.mean(0))
        ours = ((procrustes(other, points) - points) ** 2).sum() / unit**2
        assert ours == pytest.approx(disparity, rel=1e-9)
        assert mean_distance(procrustes(points * [-1, 1, 1], points), points) > 0.3


def test_acceleration_of_a_parabola_is_its_own():
    """Points that fall freely have the same acceleration at any three times, evenly spaced or not."""
    gravity, speed = np.array([[0, 9.81, 0.0]]), np.array([[1.0, -2, 3]])
    for seconds in ([0.0, 0.04, 0.08], [1.0, 1.02, 1.1]):
        times = np.array(seconds)[:, None, None]
        path = 0.5 * gravity * times**2 + speed * times
        assert acceleration(path, np.array(seconds)) == pytest.approx(gravity)


@pytest.mark.parametrize("ray", [(0.3, -0.2, 1.0), (0.0, 0.0, 2.0), (-1.0, 0.0, 0.0)])
def test_rays_turn_onto_the_axis(ray):
    """The ray itself comes to lie on the axis, and the rotation is no larger than needed."""
    ray = np.array(ray)
    turn = turned_to_axis(ray)

    assert turn @ ray == pytest.approx([0, 0, np.linalg.norm(ray)])
    angle = np.arccos(ray[2] / np.linalg.norm(ray))
    assert np.linalg.norm(Rotation.from_matrix(turn).as_rotvec()) == pytest.approx(angle, abs=1e-9)


def test_truth_of_the_shipped_clip_is_consistent():
    """Rotations are rotations, boxes enclose the pixels, bodies project into their boxes."""
    truth = read_truth(CLIP)
    rotations = truth.rotations[::50]

    assert np.allclose(rotations @ rotations.swapaxes(-1, -2), np.eye(3), atol=2e-3)
    assert np.allclose(np.linalg.det(rotations), 1, atol=2e-3)
    for t in range(0, len(truth.owners), 25):
        for p in range(len(truth.betas)):
            if truth.counts(t, p) and truth.visible_pixels[t, p] > 0.95 * truth.own_pixels[t, p]:
                x1, y1, x2, y2 = truth.bbox_xyxy[t, p]
                pelvis = truth.translation[t, p] + [0, -0.24, 0.03]
                x, y = pelvis[:2] / pelvis[2] * truth.focal_length_px + [320, 180]
                assert x1 < x < x2
                assert y1 < y < y2


COUNTS = np.array([True, True, False])  # the third is hardly seen


@pytest.mark.parametrize(
    ("rows", "pairs", "found"),
    [
        # a hit, a mistake, a miss
        ([[0.9, 0.0], [0.4, 0.1], [0.0, 0.0]], ((0, 0),), [0, 1]),
        # the third is found, which counts for nothing, or is not found
        ([[0.9, 0.0], [0.0, 0.0], [0.0, 0.8]], ((0, 0),), [0]),
        ([[0.9], [0.0], [0.0]], ((0, 0),), [0]),
        # a box around the third's visible arm; the same of somebody who counts: a mistake
        ([[0.9, 0.0], [0.0, 0.0], [0.0, 0.3]], ((0, 0),), [0]),
        ([[0.9, 0.3], [0.0, 0.0], [0.0, 0.0]], ((0, 0),), [0, 1]),
        # a hit near the third stays one
        ([[0.8], [0.0], [0.45]], ((0, 0),), [0]),
        (np.zeros((3, 0)), (), []),
        (np.zeros((3, 2)), (), [0, 1]),
    ],
)
def test_people_are_judged_by_the_rules(rows, pairs, found):
    """Rows are true people, columns found ones; those who count are always expected."""
    similarity = np.array(rows, float)
    frame = judge(similarity, COUNTS)

    assert (frame.pairs, frame.true.tolist(), frame.found.tolist()) == (pairs, [0, 1], found)
    assert frame.similarity.tolist() == similarity[:2, found].tolist()


@pytest.mark.parametrize("num_found", [0, 2])
def test_everybody_found_is_a_mistake_where_nobody_is(num_found):
    """A frame without people."""
    frame = judge(np.zeros((0, num_found)), np.zeros(0, bool))

    assert (frame.pairs, frame.found.tolist()) == ((), list(range(num_found)))
