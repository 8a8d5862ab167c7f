"""Body meshes painted into a picture without OpenGL. Knows nothing of people, tracks or files.

A painter's algorithm: faces that look at the camera, farthest first, filled by OpenCV. All bodies share one
order, so they hide each other as they should.
"""

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from numpy import ndarray

from handler.camera import Intrinsics, project

NEAR_M = 0.1  # nothing closer to the camera is painted
TO_LIGHT = np.array([-0.35, -0.6, -0.72], np.float32)  # over the camera's left shoulder (y points down)
AMBIENT, DIFFUSE = 0.38, 0.68
STRIPE_ROWS = 32  # blended at a time: buffers that fit the cache are several times faster
SUBPIXEL_BITS = 3  # fixed-point corners, so that small faces do not jump from pixel to pixel


def paint_bodies(
    image_bgr: UInt8[ndarray, "h w 3"],
    vertices: Float32[ndarray, "n v 3"],
    faces: Int64[ndarray, "f 3"],
    camera: Intrinsics,
    colours_bgr: UInt8[ndarray, "n 3"],
    opacities: Float32[ndarray, " n"],
) -> None:
    """Blend bodies over a picture, in place.

    Args:
        image_bgr: the picture.
        vertices: in the camera frame, metres.
        faces: vertex indices, counter-clockwise seen from outside.
        camera: of the picture.
        colours_bgr: one per body.
        opacities: 0 to 1, one per body.
    """
    height, width = image_bgr.shape[:2]
    corners, depths, shades, owners = _visible_faces(vertices, faces, camera, width, height)
    if not len(corners):
        return
    low = np.maximum(np.floor(corners.min(axis=(0, 1))).astype(int) - 2, 0)
    high = np.minimum(np.ceil(corners.max(axis=(0, 1))).astype(int) + 3, (width, height))
    order = np.argsort(-depths)
    colours = colours_bgr[owners[order]] * shades[order, None]
    alpha = opacities[owners[order], None] * 255
    painted = np.concatenate([colours, alpha], axis=1).clip(0, 255).tolist()
    points = np.round((corners[order] - low) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    layer = np.zeros((high[1] - low[1], high[0] - low[0], 4), np.uint8)
    for triangle, colour in zip(points, painted, strict=True):
        cv2.fillConvexPoly(layer, triangle, colour, cv2.LINE_8, SUBPIXEL_BITS)
    _blend(image_bgr[low[1] : high[1], low[0] : high[0]], layer)


def _visible_faces(
    vertices: Float32[ndarray, "n v 3"],
    faces: Int64[ndarray, "f 3"],
    camera: Intrinsics,
    width: int,
    height: int,
) -> tuple[Float32[ndarray, "k 3 2"], Float32[ndarray, " k"], Float32[ndarray, " k"], Int64[ndarray, " k"]]:
    """Corners in pixels, depth, brightness and body of every face that can be seen."""
    with np.errstate(divide="ignore", invalid="ignore"):  # what is in the camera's plane is dropped below
        pixels = project(vertices, camera)
    ahead = (vertices[..., 2] > NEAR_M)[:, faces].all(axis=2)
    a, b, c = (pixels[:, faces[:, corner]] for corner in range(3))  # (n, f, 2)
    ab, ac = b - a, c - a
    # Seen from outside the corners go counter-clockwise, which has a negative area where y points down.
    front = ahead & (ab[..., 0] * ac[..., 1] < ab[..., 1] * ac[..., 0])
    owners, found = np.nonzero(front)
    corners = np.stack([a[front], b[front], c[front]], axis=1)
    inside = ((corners.max(axis=1) >= 0) & (corners.min(axis=1) < (width, height))).all(axis=1)
    owners, found = owners[inside], found[inside]
    first, second, third = (vertices[owners, faces[found, corner]] for corner in range(3))  # (k, 3)
    normals = np.cross(second - first, third - first)
    length = np.sqrt((normals * normals).sum(axis=1)) + np.float32(1e-12)
    light = (normals @ TO_LIGHT / length).clip(0)
    shades = np.float32(AMBIENT) + np.float32(DIFFUSE) * light
    depths = (first[:, 2] + second[:, 2] + third[:, 2]) / 3
    return corners[inside], depths, shades, owners


def _blend(region_bgr: UInt8[ndarray, "h w 3"], layer: UInt8[ndarray, "h w 4"]) -> None:
    """The painted layer over the picture, in place, its outline softened by a pixel."""
    height = layer.shape[0]
    for top in range(0, height, STRIPE_ROWS):
        bottom = min(top + STRIPE_ROWS, height)
        above, below = min(top, 1), min(height - bottom, 1)  # neighbours that the filters look at
        colour, share = _softened(layer[top - above : bottom + below])
        rows = slice(above, above + bottom - top)
        over = cv2.multiply(colour[rows], share[rows], scale=1 / 255)
        under = cv2.multiply(region_bgr[top:bottom], cv2.bitwise_not(share[rows]), scale=1 / 255)
        region_bgr[top:bottom] = cv2.add(over, under)


def _softened(
    layer: UInt8[ndarray, "h w 4"],
) -> tuple[UInt8[ndarray, "h w 3"], UInt8[ndarray, "h w 3"]]:
    """Colour and opacity (0 to 255) with a soft outline."""
    opacity = cv2.extractChannel(layer, 3)
    flat = cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR)
    # Beyond the outline the layer is black: widen its colours by a pixel so that no dark rim appears.
    colour = cv2.dilate(flat, np.ones((3, 3), np.uint8))
    cv2.copyTo(flat, opacity, colour)
    return colour, cv2.merge([cv2.GaussianBlur(opacity, (3, 3), 0)] * 3)
