"""Turns decoded frames upright and keeps them at one size. Pure; knows nothing of files.

The display matrix is read whole, because its rotation angle alone hides mirroring: a picture mirrored
left to right is reported as turned by 180 degrees.
"""

import struct
from dataclasses import dataclass

import av
import cv2
import numpy as np
from av.buffer import Buffer
from jaxtyping import UInt8
from numpy import ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """How stored pixels become upright ones: transpose, then flip. Right angles only.

    Attributes:
        transpose: swap x and y first.
        flip_x: then mirror left to right.
        flip_y: then mirror top to bottom.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def rotation_degrees(self) -> int:
        """Counter-clockwise rotation to apply, mirroring left aside: 0, 90, 180 or 270."""
        if self.transpose:
            return 90 if self.flip_y else 270
        return 180 if self.flip_y else 0


AS_STORED = Orientation()


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """What the frame's display matrix asks for, to the nearest right angle."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    return orientation_of_matrix(bytes(side_data)) if isinstance(side_data, Buffer) else AS_STORED


def orientation_of_matrix(matrix: bytes) -> Orientation:
    """The orientation in FFmpeg's 3x3 display matrix: nine native 32-bit integers, row vectors.

    A stored point (x, y) is shown at (a x + c y, b x + d y), with x to the right and y down.
    """
    if len(matrix) != 36:
        return AS_STORED
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(flip_x=a < 0, flip_y=d < 0)
    return Orientation(transpose=True, flip_x=c < 0, flip_y=b < 0)


def turn_upright(stored: UInt8[ndarray, "h w 3"], orientation: Orientation) -> UInt8[ndarray, "h2 w2 3"]:
    """The upright picture, contiguous in memory; the input itself if nothing is to be done."""
    image = cv2.transpose(stored) if orientation.transpose else stored
    if orientation.flip_x or orientation.flip_y:
        code = -1 if orientation.flip_x and orientation.flip_y else int(orientation.flip_x)
        image = cv2.flip(image, code)
    return np.asarray(image)


def fit(image: UInt8[ndarray, "h w 3"], width: int, height: int) -> UInt8[ndarray, "h2 w2 3"]:
    """The whole picture scaled into `width` x `height`, its shape kept, black beside it."""
    old_height, old_width = image.shape[:2]
    scale = min(width / old_width, height / old_height)
    new_width = min(width, max(1, round(old_width * scale)))
    new_height = min(height, max(1, round(old_height * scale)))
    shrinks = scale < 1
    scaled = cv2.resize(
        image, (new_width, new_height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - new_width) // 2, (height - new_height) // 2
    canvas[top : top + new_height, left : left + new_width] = scaled
    return canvas
