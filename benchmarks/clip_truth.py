"""Reads the truth beside a synthetic clip (`<stem>_truth.npz`)."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Int32
from numpy import ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTruth:
    """What is in each frame of a clip; p people, whether seen or not.

    Attributes:
        times: of the frames, seconds.
        owners: whose each pixel is, -1 for nobody's.
        bbox_xyxy: of the visible pixels, NaN where nobody is seen.
        visible_pixels: how many each person shows.
        own_pixels: how many each would show with nobody in front, inside the frame.
        rotations: joint rotations, the root in the camera frame (x right, y down, z forward).
        betas: shapes.
        translation: of the body's origin, camera frame, metres.
        focal_length_px: of the camera; its principal point is the middle of the frame.
    """

    times: Float64[ndarray, " t"]
    owners: Int8[ndarray, "t h w"]
    bbox_xyxy: Float32[ndarray, "t p 4"]
    visible_pixels: Int32[ndarray, "t p"]
    own_pixels: Int32[ndarray, "t p"]
    rotations: Float32[ndarray, "t p 24 3 3"]
    betas: Float32[ndarray, "p 10"]
    translation: Float32[ndarray, "t p 3"]
    focal_length_px: float

    def counts(self, frame: int, person: int) -> bool:
        """Whether a detector is expected to find the person: half of the body and 1,000 pixels are seen."""
        seen = int(self.visible_pixels[frame, person])
        return seen >= 1000 and seen >= 0.5 * int(self.own_pixels[frame, person])

    def who_counts(self, frame: int) -> Bool[ndarray, " p"]:
        """`counts` of everybody in a frame."""
        return np.array([self.counts(frame, person) for person in range(len(self.betas))], bool)

    def masks(self, frame: int) -> Bool[ndarray, "p h w"]:
        """The visible pixels of everybody in a frame."""
        people = np.arange(len(self.betas), dtype=np.int8)
        return self.owners[frame][None] == people[:, None, None]


def read_truth(clip: Path) -> ClipTruth:
    """The truth of a clip made by `training.make_clip`."""
    with np.load(clip.with_name(f"{clip.stem}_truth.npz")) as data:
        first_two = data["rotations_6d"].astype(np.float32)  # (t, p, 24, 3, 2): columns
        first_two /= np.linalg.norm(first_two, axis=-2, keepdims=True)
        third = np.cross(first_two[..., 0], first_two[..., 1])
        rotations = np.concatenate([first_two, third[..., None]], axis=-1)
        owners = np.frombuffer(zlib.decompress(data["owners_deflated"].tobytes()), np.int8)
        return ClipTruth(
            times=data["times"],
            owners=owners.reshape(data["owners_shape"]),
            bbox_xyxy=data["bbox_xyxy"],
            visible_pixels=data["visible_pixels"],
            own_pixels=data["own_pixels"],
            rotations=rotations,
            betas=data["betas"],
            translation=data["translation"],
            focal_length_px=float(data["focal_length_px"]),
        )
