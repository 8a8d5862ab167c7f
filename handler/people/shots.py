"""Camera cuts in a stream of frames.

PHALP asks PySceneDetect (0.6 and later, `AdaptiveDetector` with its defaults) about the whole video before it
starts. A cut depends on two frames after it and on nothing later, so it can as well be found on the way.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from handler.records import Frame

MIN_WIDTH = 256  # frames are shrunk to about this before they are compared
WINDOW = 2  # frames on either side that a change is compared with
MIN_RATIO = 3.0  # a cut changes the picture this many times more than its neighbours do
MAX_RATIO = 255.0
MIN_CONTENT = 15.0  # and by at least this much, grey levels
MIN_SHOT_FRAMES = 15  # no cut so soon after the last


def detect_shots(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The same frames, marked where a new shot begins; the first frame of the video does not count as one.

    Memory: three frames, and the small picture of the newest.
    """
    held: deque[Frame] = deque()
    changes: deque[float] = deque(maxlen=2 * WINDOW + 1)  # of the newest frames, each against the one before
    last_cut = 0
    previous = None
    for index, frame in enumerate(frames):
        picture = _small_hsv(frame.image_bgr)
        changes.append(0.0 if previous is None else _change(previous, picture))
        previous = picture
        held.append(frame)
        if len(held) <= WINDOW:
            continue
        candidate = index - WINDOW
        is_possible = len(changes) == changes.maxlen and candidate - last_cut >= MIN_SHOT_FRAMES
        if is_possible and _stands_out(changes):
            last_cut = candidate
            held[0] = replace(held[0], info=replace(held[0].info, shot=True))
        yield held.popleft()
    yield from held


def _stands_out(changes: deque[float]) -> bool:
    """Whether the change in the middle is large by itself and against its neighbours."""
    change = changes[WINDOW]
    around = (sum(changes) - change) / (2 * WINDOW)
    ratio = MAX_RATIO if around < 1e-5 else min(change / around, MAX_RATIO)
    return change >= MIN_CONTENT and ratio >= MIN_RATIO


def _small_hsv(image_bgr: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "a b 3"]:
    height, width = image_bgr.shape[:2]
    factor = max(width, height) / MIN_WIDTH
    if factor > 1:
        size = max(1, round(width / factor)), max(1, round(height / factor))
        image_bgr = cv2.resize(image_bgr, size, interpolation=cv2.INTER_LINEAR)
    hsv: UInt8[ndarray, "a b 3"] = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2HSV)
    return hsv


def _change(before: UInt8[ndarray, "a b 3"], after: UInt8[ndarray, "c d 3"]) -> float:
    """Mean absolute difference of hue, saturation and value, 0 to 255."""
    if before.shape != after.shape:  # the video changes its size here
        before = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return float(np.mean(cv2.absdiff(before, after)))
