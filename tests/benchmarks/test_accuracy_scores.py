"""The scores of `benchmarks.accuracy` on cases whose answers are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.accuracy_scores import (
    box_iou,
    identity_switches,
    idf1,
    mask_iou,
    match,
    mean_distance,
    procrustes,
)
from benchmarks.clip_truth import read_truth
from tests.model_cache.lite.shipped_clip import CLIP


def test_procrustes_undoes_any_similarity():
    """A turned, scaled and shifted copy comes back exactly; a mirrored one does not."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(14, 3))
    moved = 1.7 * points @ Rotation.random(rng=1).as_matrix() + [1, -2, 3]

    assert mean_distance(procrustes(moved, points), points) < 1e-9
    assert mean_distance(procrustes(points * [-1, 1, 1], points), points) > 0.3


def test_overlaps_have_their_areas():
    """Half-covered boxes and masks: a third; apart: nothing; the same: one."""
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    masks = np.zeros((3, 32, 32), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[y1:y2, x1:x2] = True
    expected = np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])

    assert np.allclose(expected, box_iou(boxes, boxes))
    assert np.allclose(expected, mask_iou(masks, masks))


def test_match_takes_the_best_total_above_the_floor():
    """The greedy pair is given up where another choice is better for all."""
    assert sorted(match(np.array([[0.9, 0.8], [0.85, 0.1]]), 0.5)) == [(0, 1), (1, 0)]
    assert match(np.array([[0.4]]), 0.5) == []


def test_idf1_counts_the_best_track_of_each_person():
    """Ten frames, two people: one track each is 1; a swap half way keeps half."""
    steady = [(p, p + 1) for _ in range(10) for p in (0, 1)]
    swapped = [(p, p + 1) for _ in range(5) for p in (0, 1)] + [(p, 2 - p) for _ in range(5) for p in (0, 1)]

    assert idf1(steady, 20, 20) == 1
    assert idf1(swapped, 20, 20) == 0.5
    assert idf1(steady, 20, 30) == pytest.approx(2 * 20 / 50)


def test_switches_count_changes_of_track():
    """1 1 2 2 1 is two switches."""
    assert identity_switches([1, 1, 2, 2, 1]) == 2


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
