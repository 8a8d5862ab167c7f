"""Draw empty places to stand in: rooms with tiled or boarded floors, streets, gyms, plain clutter.

A place is seen by a camera at a height and pitch, so floors have perspective.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.look import draw_colour

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Camera:
    """A still pinhole camera above a flat floor; world x is left, y up (floor y = 0), z ahead.

    Attributes:
        focal: pixels. size: (height, width). height: metres. pitch: radians, positive looks down.
    """

    focal: float
    size: tuple[int, int]
    height: float
    pitch: float

    @property
    def centre(self) -> tuple[float, float]:
        """Principal point, the middle of the image."""
        return self.size[1] / 2, self.size[0] / 2

    @property
    def rotation(self) -> NDArray[np.float64]:
        """World axes (x left, y up, z away) to camera axes (x right, y down, z forward); no reflection."""
        sine, cosine = np.sin(self.pitch), np.cos(self.pitch)
        return np.array([[-1.0, 0, 0], [0, -cosine, -sine], [0, -sine, cosine]])

    def to_camera(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """World points (n, 3) in camera coordinates."""
        return (points - np.array([0, self.height, 0])) @ self.rotation.T

    def project(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """World points (n, 3) in pixels (n, 2)."""
        p = self.to_camera(points)
        return p[:, :2] / np.maximum(p[:, 2:], 0.05) * self.focal + np.array(self.centre)


def draw_place(rng: np.random.Generator, camera: Camera, depth: float | None = None) -> Array:
    """An empty place (h, w, 3), RGB 0-1. `depth` is the distance of the back wall in metres."""
    height, width = camera.size
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack(
        [(columns - width / 2) / camera.focal, (rows - height / 2) / camera.focal, np.ones_like(rows)], -1
    )
    rays = (rays.reshape(-1, 3) @ camera.rotation).reshape(height, width, 3)  # world directions
    wall = depth if depth is not None else rng.uniform(6, 16)
    half = rng.uniform(3.5, 9)
    indoor = rng.uniform() < 0.7
    ceiling = rng.uniform(2.6, 4.5) if indoor else 1e3
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = np.stack(
            [
                np.where(rays[..., 1] < 0, -camera.height / rays[..., 1], np.inf),
                np.where(rays[..., 1] > 0, (ceiling - camera.height) / rays[..., 1], np.inf),
                np.where(rays[..., 2] > 0, wall / rays[..., 2], np.inf),
                np.where(rays[..., 0] != 0, half / np.abs(rays[..., 0]), np.inf) if indoor
                else np.full(rows.shape, np.inf),
            ]
        )  # fmt: skip
    surface = hits.argmin(0)
    distance = np.minimum(hits.min(0), 1e3)[..., None]
    points = rays * distance + np.array([0, camera.height, 0])
    image = np.empty((height, width, 3), np.float32)
    planes = [(0, 2), (0, 2), (0, 1), (2, 1)]
    for index, (u, v) in enumerate(planes):
        mask = surface == index
        if mask.any():
            image[mask] = draw_texture(rng, points[mask][:, u], points[mask][:, v], floor=index == 0)
    if not indoor and (sky := surface == 2).any():
        level = np.clip(points[sky][:, 1] / 8, 0, 1)[:, None]
        top, bottom = np.array([0.45, 0.62, 0.85]), np.array([0.8, 0.84, 0.88])
        image[sky] = np.where(
            points[sky][:, 1:2] > rng.uniform(1.0, 4.5), bottom + (top - bottom) * level, image[sky]
        )
    image *= (1.08 - 0.02 * np.clip(distance, 0, 20)).astype(np.float32)
    _add_things(rng, image, camera, wall)
    image += _clouds(rng, height, width)[..., None] * rng.uniform(0.02, 0.1)
    return np.clip(image, 0, 1).astype(np.float32)


def draw_texture(rng: np.random.Generator, u: Array, v: Array, floor: bool) -> Array:
    """Colours (n, 3) of surface points given in metres."""
    first, second = draw_colour(rng, dull=0.8), draw_colour(rng, dull=0.8)
    if floor or rng.uniform() < 0.5:
        second = np.clip(first + rng.normal(0, 0.12), 0, 1)
    kind = rng.choice(["plain", "tiles", "boards", "stripes", "noise"])
    size = rng.uniform(0.25, 1.2)
    if kind == "tiles":
        mix = ((np.floor(u / size) + np.floor(v / size)) % 2).astype(np.float32)
    elif kind == "boards":
        mix = np.modf(np.abs(np.sin(np.floor(u / size * 3) * 12.9) * 43.7))[0]
    elif kind == "stripes":
        mix = (np.modf(np.abs(v if rng.integers(2) else u) / size)[0] < 0.12).astype(np.float32)
    elif kind == "noise":
        mix = 0.5 + 0.5 * np.sin(u * 9 / size + 2 * np.sin(v * 7)) * np.sin(v * 8 / size + 2 * np.sin(u * 6))
    else:
        mix = np.zeros_like(u)
    mix = mix[:, None]
    return (first * (1 - mix) + second * mix).astype(np.float32)


def _add_things(rng: np.random.Generator, image: Array, camera: Camera, wall: float) -> None:
    """Pictures and windows on the wall, boxes on the floor."""
    for _ in range(rng.integers(0, 7)):
        x, y = rng.uniform(-5, 5), rng.uniform(0.8, 2.6)
        w, h = rng.uniform(0.3, 1.6), rng.uniform(0.3, 1.4)
        corners = np.array([[x, y, wall], [x + w, y, wall], [x + w, y + h, wall], [x, y + h, wall]]) - [
            0,
            0,
            0.01,
        ]
        _polygon(image, camera, corners, draw_colour(rng, 0.5))
        inset = 0.06 * np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])
        _polygon(image, camera, corners + inset, draw_colour(rng, 0.5))
    for _ in range(rng.integers(0, 6)):
        x, z = rng.uniform(-5, 5), rng.uniform(0.55 * wall, wall - 0.6)
        w, h, d = rng.uniform(0.3, 1.4, 3) * [1, 1.2, 0.4]
        colour = draw_colour(rng, 0.5)
        box = np.array([[x, 0, z], [x + w, 0, z], [x + w, h, z], [x, h, z]])
        side = np.array([[x + w, 0, z], [x + w, 0, z + d], [x + w, h, z + d], [x + w, h, z]])
        top = np.array([[x, h, z], [x + w, h, z], [x + w, h, z + d], [x, h, z + d]])
        for face, level in ((side, 0.7), (top, 1.15), (box, 1.0)):
            _polygon(image, camera, face, np.clip(colour * level, 0, 1))


def _polygon(image: Array, camera: Camera, corners: NDArray[np.float64], colour: NDArray[np.float64]) -> None:
    if (camera.to_camera(corners)[:, 2] < 0.2).any():
        return
    points = np.round(np.clip(camera.project(corners), -4000, 4000)).astype(np.int32)
    cv2.fillConvexPoly(image, points, colour.tolist(), cv2.LINE_AA)


def _clouds(rng: np.random.Generator, height: int, width: int) -> Array:
    """Smooth noise of zero mean at several scales."""
    total = np.zeros((height, width), np.float32)
    for scale in (4, 12, 40):
        small = rng.normal(0, 1, (height // (height // scale) + 2, scale * 2)).astype(np.float32)
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return total / 3
