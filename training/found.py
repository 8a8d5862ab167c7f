"""Crops as the bundled detector cuts them out of clips, with its mistakes, and the exact answer.

The clips are drawn a few frames a second, each with other people.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from model_cache.lite.detector import PHALP_THRESHOLD, LiteDetector
from model_cache.networks.crops import pad_boxes, warp_people
from model_cache.networks.detector import Detections
from training.body import Body
from training.clips import ClipFrame, ClipPlan, draw_clip
from training.crops import Crop, fit_crop_cam, view_rotation

RATE = 2.5  # frames a second: neighbours differ
SECONDS = 10.0
NUM_PEOPLE = (2, 3, 4, 4, 5, 6)
FOUND = 0.5  # least overlap of a found mask with the person's
SMALLEST_VISIBLE = 0.3  # of the person's own pixels


def find_crops(rng: np.random.Generator, body: Body, detector: LiteDetector) -> Iterator[Crop]:
    """Found people, clip after clip, without end."""
    while True:
        plan = ClipPlan(
            seed=int(rng.integers(1_000_000, 2**31)),  # far from the seeds that are scored
            num_people=int(rng.choice(NUM_PEOPLE)),
            seconds=SECONDS,
            rate=RATE,
        )
        quality = int(rng.integers(55, 96))
        for frame in draw_clip(plan, body):
            yield from _crops_of(frame, body, detector, quality)


def _crops_of(frame: ClipFrame, body: Body, detector: LiteDetector, quality: int) -> Iterator[Crop]:
    _, coded = cv2.imencode(".jpg", frame.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    image = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    found = detector.find(image)
    boxes = pad_boxes(found.bbox_xyxy)
    crops, masks = warp_people(image, boxes, found.masks)
    for row in np.flatnonzero(found.scores >= PHALP_THRESHOLD):
        person = _whose(found, int(row), frame)
        if person is not None:
            yield _answered(crops[row], masks[row] > 0, boxes[row], frame, person, body)


def _whose(found: Detections, row: int, frame: ClipFrame) -> int | None:
    """The person that a found one is, if enough of her is seen."""
    mask = found.masks[row]
    for person, own in enumerate(frame.own_pixels):
        seen = frame.owners == person
        both, either = int((mask & seen).sum()), int((mask | seen).sum())
        if both > FOUND * either and seen.sum() >= SMALLEST_VISIBLE * own:
            return person
    return None


def _answered(
    image_bgr: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    box: NDArray[np.float32],
    frame: ClipFrame,
    person: int,
    body: Body,
) -> Crop:
    """The crop with its answer in the frame of a camera that looks at its middle."""
    height, width = frame.owners.shape
    centre, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
    middle = np.array([width / 2, height / 2])
    posed = body.pose(frame.rotations[person], frame.betas[person])
    placed = posed.joints_44 + frame.translation[person]
    keypoints = (placed[:, :2] / placed[:, 2:] * frame.focal + middle - centre) / side
    turn = view_rotation(np.array([*(centre - middle) / frame.focal, 1.0]))
    joints = posed.joints_44 @ turn.T
    rotations = frame.rotations[person].copy()
    rotations[0] = turn @ rotations[0]
    return Crop(
        image_bgr=image_bgr,
        rotations=rotations.astype(np.float32),
        betas=frame.betas[person],
        crop_cam=fit_crop_cam(joints, keypoints).astype(np.float32),
        joints=joints.astype(np.float32),
        keypoints=keypoints.astype(np.float32),
        mask=mask,
    )
