"""Boxes, names and skeletons drawn on a picture."""

import colorsys

import cv2
import numpy as np
from jaxtyping import Float, Int64, UInt8
from numpy import ndarray

from handler.results.document import PARENTS

GOLDEN_RATIO = 0.618033988749895  # steps of it spread hues evenly however many there are
DARK, BRIGHT = (20, 20, 20), (250, 250, 250)

Image = UInt8[ndarray, "h w 3"]
Box = Float[ndarray, "4"]  # x1, y1, x2, y2, pixels
Colour = tuple[int, int, int]


def colour_of(track_id: int) -> Colour:
    """The identity's colour (BGR), the same in every frame; neighbours in number differ clearly."""
    red, green, blue = colorsys.hsv_to_rgb(0.55 + track_id * GOLDEN_RATIO % 1, 0.62, 0.96)
    return round(blue * 255), round(green * 255), round(red * 255)


def _thickness(height: int) -> int:
    """Of lines, pixels, such that they look the same in every frame size."""
    return max(1, round(height / 480))


def draw_box(image_bgr: Image, bbox_xyxy: Box, colour: Colour, *, dashed: bool) -> None:
    """A box, in place; dashed for people who were not measured."""
    left, top, right, bottom = _whole(bbox_xyxy).tolist()
    thickness = _thickness(image_bgr.shape[0])
    if not dashed:
        cv2.rectangle(image_bgr, (left, top), (right, bottom), colour, thickness, cv2.LINE_AA)
        return
    dash = 6 * thickness
    for y in (top, bottom):
        for x in range(left, right, 2 * dash):
            cv2.line(image_bgr, (x, y), (min(x + dash, right), y), colour, thickness)
    for x in (left, right):
        for y in range(top, bottom, 2 * dash):
            cv2.line(image_bgr, (x, y), (x, min(y + dash, bottom)), colour, thickness)


def draw_label(image_bgr: Image, bbox_xyxy: Box, text: str, colour: Colour) -> None:
    """A name on the box's upper left corner, in place; inside the picture even if the box is not."""
    height, width = image_bgr.shape[:2]
    thickness = _thickness(height)
    scale = 0.42 * thickness
    (text_width, text_height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    left, top, _, _ = _whole(bbox_xyxy).tolist()
    margin = 3 * thickness
    full_width, full_height = text_width + 2 * margin, text_height + base + margin
    x = min(max(left, 0), max(width - full_width, 0))
    y = min(max(top - full_height, 0), max(height - full_height, 0))
    cv2.rectangle(image_bgr, (x, y), (x + full_width, y + full_height), colour, cv2.FILLED)
    origin = (x + margin, y + margin + text_height)
    cv2.putText(image_bgr, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, DARK, thickness, cv2.LINE_AA)


def draw_skeleton(
    image_bgr: Image, joints_2d: Float[ndarray, "24 2"], colour: Colour, *, faint: bool
) -> None:
    """SMPL's 24 joints and the bones between them, in place; without joints and outline if `faint`."""
    thickness = _thickness(image_bgr.shape[0])
    points = _whole(joints_2d).tolist()
    bones = [(points[parent], points[joint]) for joint, parent in enumerate(PARENTS) if parent >= 0]
    if faint:
        for start, end in bones:
            cv2.line(image_bgr, start, end, colour, thickness, cv2.LINE_AA)
        return
    for start, end in bones:
        cv2.line(image_bgr, start, end, DARK, 2 * thickness + 2, cv2.LINE_AA)
    for start, end in bones:
        cv2.line(image_bgr, start, end, colour, 2 * thickness, cv2.LINE_AA)
    for point in points:
        cv2.circle(image_bgr, point, 2 * thickness, DARK, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(image_bgr, point, max(2 * thickness - 1, 1), BRIGHT, cv2.FILLED, cv2.LINE_AA)


def _whole(pixels: Float[ndarray, "*shape"]) -> Int64[ndarray, "*shape"]:
    """Whole numbers that OpenCV can take, however far outside the picture they are."""
    whole: Int64[ndarray, "*shape"] = np.clip(pixels, -(1 << 14), 1 << 14).round().astype(np.int64)
    return whole
