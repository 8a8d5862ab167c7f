"""The bundled detector on frames of the shipped clip, and whose a pixel is where people stand close."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.accuracy_scores import box_iou, mask_iou, match
from model_cache.lite.detector import LiteDetector, calibrate, upright_crop
from model_cache.lite.movenet import MoveNet
from model_cache.lite.pixel_owners import distance_to, nearest_person, share_out
from tests.model_cache.lite.shipped_clip import read_frames

FRAMES = (5, 40, 75, 110, 145, 180, 215, 245)


@pytest.fixture(scope="module")
def detector():
    """One for all tests; it holds nothing of any image."""
    return LiteDetector(num_threads=1)


@pytest.fixture(scope="module")
def shipped():
    """Some frames and the whole clip's truth."""
    return read_frames(FRAMES)


def test_detector_finds_and_masks_the_people(detector, shipped):
    """Three of four people in sight are found at PHALP's threshold, with masks that fit, and few others."""
    images, truth = shipped
    expected = hits = extra = 0
    overlaps = []
    for frame, found in zip(FRAMES, map(detector.find, images), strict=True):
        people = [p for p in range(len(truth.betas)) if truth.counts(frame, p)]
        kept = found.masks[found.scores > 0.8]
        overlap = mask_iou(kept, np.stack([truth.owners[frame] == p for p in people]))
        pairs = match(overlap, 0.5)
        overlaps += [overlap[pair] for pair in pairs]
        expected, hits, extra = expected + len(people), hits + len(pairs), extra + len(kept) - len(pairs)

    assert hits >= 0.75 * expected
    assert extra <= 0.15 * expected
    assert np.mean(overlaps) > 0.8


def test_masks_share_no_pixel_and_fill_their_boxes(detector, shipped):
    """A pixel belongs to one person, boxes are tight around masks, scores descend."""
    for found in map(detector.find, shipped[0]):
        assert found.masks.sum(0).max(initial=0) <= 1
        assert (np.diff(found.scores) <= 0).all()
        for box, mask in zip(found.bbox_xyxy, found.masks, strict=True):
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_empty_room_has_nobody(detector):
    """A plain picture, however small or long, gives no detections but well-formed arrays."""
    for size in ((360, 640), (33, 500), (700, 20)):
        found = detector.find(np.full((*size, 3), 120, np.uint8))

        assert (0, *size) == found.masks.shape
        assert found.bbox_xyxy.shape == (0, 4)


def test_people_are_found_in_any_size_of_frame(detector, shipped):
    """The same frame twice as large gives the same people at twice the coordinates."""
    image = shipped[0][1]
    small, large = detector.find(image), detector.find(image.repeat(2, 0).repeat(2, 1))

    assert len(small.scores) == len(large.scores)
    assert np.diag(box_iou(large.bbox_xyxy / 2, small.bbox_xyxy)).min() > 0.7


def test_people_side_by_side_are_told_apart(detector):
    """Where two people overlap by a fifth, each has a mask of their own."""
    images, truth = read_frames((199, 212))
    for image, index in zip(images, (199, 212), strict=True):
        found = detector.find(image)
        true_masks = np.stack([truth.owners[index] == person for person in range(4)])

        assert len(match(mask_iou(found.masks, true_masks), 0.5)) == 4


def test_more_people_are_found_than_the_network_has_slots_for(detector):
    """Three frames side by side show twelve people; one look of MoveNet's finds six at most."""
    images, truth = read_frames((46, 85, 148))
    crowd = np.concatenate(images, axis=1)
    found = detector.find(crowd)
    true_masks = np.zeros((12, 360, 3 * 640), bool)
    for place, index in enumerate((46, 85, 148)):
        for person in range(4):
            true_masks[4 * place + person, :, 640 * place : 640 * (place + 1)] = truth.owners[index] == person

    assert len(match(mask_iou(found.masks, true_masks), 0.5)) >= 11
    assert len(found.scores) <= 13
    assert len(MoveNet(1).find(crowd)) <= 18  # whom several looks found counts once; all looks find 34


def test_working_point_becomes_phalps_threshold():
    """MoveNet's 0.2 is PHALP's 0.8; the map grows and stays within 0 and 1."""
    scores = [calibrate(score) for score in np.linspace(0, 1, 50)]

    assert calibrate(0.2) == pytest.approx(0.8)
    assert (np.diff(scores) > 0).all()
    assert (scores[0], scores[-1]) == (0, pytest.approx(1))


@settings(max_examples=40, deadline=None)
@given(angle=st.floats(-3, 3), size=st.floats(20, 800), x=st.floats(-100, 900), y=st.floats(-100, 900))
def test_blazepose_sees_everybody_upright(angle, size, x, y):
    """Whatever the lean, hips come to the crop's middle and shoulders straight above, without distortion."""
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[:, 2] = 1
    lean = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    body = [5, 6, 11, 12, 15, 16, 0]
    points = [(-0.2, -0.5), (0.2, -0.5), (-0.1, 0), (0.1, 0), (-0.1, 1), (0.1, 1), (0, -0.8)]
    keypoints[:, :2] = [x, y]
    keypoints[body, :2] += np.array(points) @ lean.T * size
    to_crop = upright_crop(keypoints)
    seen = keypoints[:, :2].astype(float) @ to_crop[:, :2].T + to_crop[:, 2]

    assert np.allclose((seen[11] + seen[12]) / 2, 128, atol=0.1)
    assert (seen[5] + seen[6])[0] / 2 == pytest.approx(128, abs=0.2)
    assert (seen[5] + seen[6])[1] / 2 < 128
    assert 0 < seen[body].min() < seen[body].max() < 256
    assert np.allclose(to_crop[:, :2] @ to_crop[:, :2].T, np.eye(2) * np.linalg.det(to_crop[:, :2]))


SIZE = (120, 160)
UPRIGHT = np.array(
    [(0, -40), (2, -42), (-2, -42), (3, -41), (-3, -41),  # face
     (8, -30), (-8, -30), (10, -12), (-10, -12), (11, 4), (-11, 4),  # arms
     (5, 0), (-5, 0), (5, 22), (-5, 22), (5, 44), (-5, 44)],  # legs
    np.float32,
)  # fmt: skip


def standing_at(x, y=60, score=0.9):
    """COCO's key points of somebody whose hips are at (x, y)."""
    points = UPRIGHT + np.array([x, y], np.float32)
    return np.concatenate([points, np.full((17, 1), score)], axis=1).astype(np.float32)


def test_distance_is_zero_on_the_bones_and_counts_torso_lengths():
    """A pixel 30 px beside a leg is a torso length away, less half a leg's width."""
    distance = distance_to(standing_at(80), SIZE)

    assert distance[45, 80] == 0  # in the trunk
    assert distance[82, 85] == 0  # on the left knee
    assert distance[100, 85 + 30] == pytest.approx(1 - 0.14, abs=0.06)


def test_each_of_two_people_claims_their_own_side():
    """Pixels go to the nearer bones; far ones, and unsure key points, to nobody."""
    people = standing_at(60), standing_at(90), standing_at(5, 5, score=0.02)
    owners = nearest_person([distance_to(points, SIZE) for points in people])

    assert owners[50, 60] == 0
    assert owners[50, 90] == 1
    assert owners[50, 74] == 0
    assert owners[50, 76] == 1
    assert owners[5, 5] == -1


def test_a_shared_pixel_goes_to_the_nearer_bones_and_a_free_one_stays():
    """Masks that run over into a neighbour are cut where the neighbour is nearer, and nowhere else."""
    whole = np.ones(SIZE, bool)
    right_only = np.zeros(SIZE, bool)
    right_only[:, 70:] = True
    left, right = share_out(
        [whole, right_only],
        [distance_to(standing_at(60), SIZE), distance_to(standing_at(90), SIZE)],
        [104, 104],
    )

    assert not (left & right).any()
    assert (left | right).all()
    assert left[:, :70].all()
    assert right[50, 80]


@pytest.mark.parametrize("nearer", [0, 1])
def test_on_the_bones_of_both_the_lower_feet_win(nearer):
    """Of two people in line the one who stands lower in the image is in front."""
    whole = np.ones(SIZE, bool)
    feet = [90.0, 90.0]
    feet[nearer] = 104.0
    shares = share_out([whole, whole], [distance_to(standing_at(80), SIZE)] * 2, feet)

    assert shares[nearer][50, 80]
    assert not shares[1 - nearer][50, 80]
