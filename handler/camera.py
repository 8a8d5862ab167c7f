"""Cameras of a measured body: PHALP's 256-pixel canvas, the full image, and projection between them.

PHALP pads every frame to a square (the frame in the middle) and scales it to 256 pixels, the *canvas*. On it
the camera has a focal length of 5000 and looks at the centre. In pixels of the upright frame that is one
pinhole camera: focal length 5000 x max(width, height) / 256, principal point at the middle of the square.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32
from numpy import ndarray

CANVAS_SIZE = 256  # PHALP's rendering resolution; also HMR2's crop
CANVAS_FOCAL_LENGTH = 5000.0  # EXTRA.FOCAL_LENGTH of HMR2's configuration
DEPTH_GUARD = 1e-9  # keeps PHALP's division finite when the weak camera's scale is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Intrinsics:
    """A pinhole camera without distortion: focal lengths and principal point, pixels of the upright frame."""

    fx: float
    fy: float
    cx: float
    cy: float


def canvas_offset_px(width: int, height: int) -> tuple[int, int]:
    """Columns and rows of padding left of and above the frame on the square canvas, frame pixels."""
    side = max(width, height)
    return (side - width) // 2, (side - height) // 2


def canvas_translation(
    crop_cam: Float[ndarray, "n 3"],
    center_px: Float[ndarray, "n 2"],
    scale_px: Float[ndarray, " n"],
    width: int,
    height: int,
) -> Float32[ndarray, "n 3"]:
    """The body's translation `cam_t` on the canvas, PHALP's `camera`.

    It follows from each crop's weak camera (s, tx, ty), the centre and larger side of its padded box and the
    frame's size, in pixels of the upright frame. Source: PHALP's `get_3d_parameters` and its caller.
    """
    ratio = CANVAS_SIZE / max(width, height)
    center = (center_px.astype(np.float64) + canvas_offset_px(width, height)) * ratio
    scale = scale_px.astype(np.float64) * ratio
    depth = 2 * CANVAS_FOCAL_LENGTH / (crop_cam[:, 0] * scale + DEPTH_GUARD)
    shift = (center - CANVAS_SIZE / 2) * (depth / CANVAS_FOCAL_LENGTH)[:, None]
    cam_t: Float32[ndarray, "n 3"] = np.empty(crop_cam.shape, np.float32)
    cam_t[:, :2] = crop_cam[:, 1:] + shift
    cam_t[:, 2] = depth
    return cam_t


def project_to_canvas(
    points: Float[ndarray, "n j 3"], cam_t: Float[ndarray, "n 3"]
) -> Float32[ndarray, "n j 2"]:
    """Points of bodies (metres, without translation) on the canvas, 0 to 1 over it (PHALP's `2d_joints`)."""
    moved = points + cam_t[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):  # a point in the camera's plane has no image
        image = moved[..., :2] / moved[..., 2:]
    on_canvas: Float[ndarray, "n j 2"] = CANVAS_FOCAL_LENGTH / CANVAS_SIZE * image + 0.5
    return on_canvas.astype(np.float32)


def canvas_to_pixels(points_2d: Float[ndarray, "... 2"], width: int, height: int) -> Float[ndarray, "... 2"]:
    """Canvas coordinates (0 to 1 over the padded square) as pixels of the upright frame."""
    offset = np.array(canvas_offset_px(width, height), points_2d.dtype)
    pixels: Float[ndarray, "... 2"] = points_2d * max(width, height) - offset
    return pixels


def assumed_intrinsics(width: int, height: int) -> Intrinsics:
    """The camera that PHALP's `cam_t` belongs to, in pixels of the upright frame."""
    side = max(width, height)
    left, top = canvas_offset_px(width, height)
    focal_length_px = CANVAS_FOCAL_LENGTH * side / CANVAS_SIZE
    return Intrinsics(fx=focal_length_px, fy=focal_length_px, cx=side / 2 - left, cy=side / 2 - top)


def known_intrinsics(
    width: int,
    height: int,
    fx: float,
    fy: float | None = None,
    cx: float | None = None,
    cy: float | None = None,
) -> Intrinsics:
    """A camera the caller knows, with what is left out filled in: fy = fx, principal point in the middle."""
    return Intrinsics(
        fx=fx,
        fy=fx if fy is None else fy,
        cx=width / 2 if cx is None else cx,
        cy=height / 2 if cy is None else cy,
    )


def full_image_translation(
    cam_t: Float[ndarray, "n 3"], width: int, height: int, intrinsics: Intrinsics
) -> Float32[ndarray, "n 3"]:
    """The body's translation in front of the given camera of the full image, metres.

    The body's origin keeps its pixel and the body its apparent size. With f0, p0 the assumed camera,
    (x, y, z) = `cam_t` and (u, v) = f0 (x, y) / z + p0 the origin's pixel:

        Z = z sqrt(fx fy) / f0,    X = (u - cx) Z / fx,    Y = (v - cy) Z / fy

    For the assumed camera itself this is `cam_t` again. Perspective inside the body changes a little, as it
    must: HMR2 saw the crop through a lens of its own.
    """
    assumed = assumed_intrinsics(width, height)
    x, y, z = cam_t.astype(np.float64).T
    u = assumed.fx * x / z + assumed.cx
    v = assumed.fy * y / z + assumed.cy
    depth = z * np.sqrt(intrinsics.fx * intrinsics.fy) / assumed.fx
    right = (u - intrinsics.cx) * depth / intrinsics.fx
    down = (v - intrinsics.cy) * depth / intrinsics.fy
    return np.stack([right, down, depth], axis=1).astype(np.float32)


def project(points: Float[ndarray, "... 3"], intrinsics: Intrinsics) -> Float[ndarray, "... 2"]:
    """Points in the camera frame (x right, y down, z forward) as pixels of the upright frame."""
    focal = np.array([intrinsics.fx, intrinsics.fy], points.dtype)
    center = np.array([intrinsics.cx, intrinsics.cy], points.dtype)
    pixels: Float[ndarray, "... 2"] = points[..., :2] / points[..., 2:] * focal + center
    return pixels
