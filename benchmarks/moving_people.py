"""A clip of textured people, as long as need be, with what a detector would say.

Frames are drawn when they are asked for, so a long clip takes no memory. Each person swings left and right in
a lane of its own; the last one is away every now and then, so that tracks are lost, found again and replaced.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import cv2
import numpy as np

from model_cache.networks.detector import Detections

WIDTH, HEIGHT = 480, 270
PERSON_WIDTH, PERSON_HEIGHT = 66, 150
LANE = 150  # px between people
SWING = 40  # frames there and back
AWAY_EVERY, AWAY_FOR = 30, 6  # frames; shorter than `max_age_track`
LONG_AWAY = (300, 370)  # frames of each thousand; longer than `max_age_track`


class MovingPeople(Mapping[int, Detections]):
    """Frame index to the people in it (1 to 3), as `ReplayDetector` wants them."""

    def __init__(self, num_frames: int, num_people: int = 3) -> None:
        self._num_frames = num_frames
        self._num_people = num_people

    def __len__(self) -> int:
        return self._num_frames

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._num_frames))

    def __getitem__(self, index: int) -> Detections:
        if not 0 <= index < self._num_frames:
            raise KeyError(index)
        boxes = [box for _, box in self._present(index)]
        masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
        for mask, (x, y) in zip(masks, boxes, strict=True):
            mask[y : y + PERSON_HEIGHT, x : x + PERSON_WIDTH] = _silhouette()
        corners = np.array([(x, y, x + PERSON_WIDTH, y + PERSON_HEIGHT) for x, y in boxes], np.float32)
        scores = np.linspace(0.98, 0.9, self._num_people, dtype=np.float32)[: len(boxes)]
        return Detections(bbox_xyxy=corners.reshape(-1, 4), scores=scores, masks=masks)

    def frame(self, index: int) -> np.ndarray:
        """The picture, BGR."""
        image = _background().copy()
        for person, (x, y) in self._present(index):
            place = image[y : y + PERSON_HEIGHT, x : x + PERSON_WIDTH]
            place[_silhouette()] = _clothes(person)[_silhouette()]
        return image

    def _present(self, index: int) -> list[tuple[int, tuple[int, int]]]:
        """Who is in a frame, and the top left corner of the box."""
        present = []
        for person in range(self._num_people):
            away = index % AWAY_EVERY < AWAY_FOR and index >= AWAY_EVERY
            long_away = LONG_AWAY[0] <= index % 1000 < LONG_AWAY[1]
            if person == self._num_people - 1 and (away or long_away):
                continue
            phase = (index + 13 * person) % SWING
            offset = abs(phase - SWING // 2) * 3
            present.append((person, (10 + LANE * person + offset, 60 + 10 * person)))
        return present


@cache
def _background() -> np.ndarray:
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(60, 160, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 5)


@cache
def _silhouette() -> np.ndarray:
    rows = (np.arange(PERSON_HEIGHT)[:, None] + 0.5) / PERSON_HEIGHT * 2 - 1
    columns = (np.arange(PERSON_WIDTH) + 0.5) / PERSON_WIDTH * 2 - 1
    return rows**2 + columns**2 < 1


@cache
def _clothes(person: int) -> np.ndarray:
    rng = np.random.default_rng(100 + person)
    coarse = rng.integers(0, 256, (10, 5, 3), dtype=np.uint8)
    return cv2.resize(coarse, (PERSON_WIDTH, PERSON_HEIGHT), interpolation=cv2.INTER_CUBIC)
