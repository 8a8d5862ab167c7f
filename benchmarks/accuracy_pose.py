"""Errors of a found body against the true one.

A body is its SMPL parameters and its place before a camera; joints and skin follow from them with the body
that the clip was drawn with. Joints are the 14 of LSP among HMR2's 44, over which it is usually evaluated.
All errors but the one in the picture are taken after moving the pelvis onto the true one; "PA" after the best
rotation, scale and shift as well.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64
from numpy import ndarray

from benchmarks.accuracy_scores import mean_distance, procrustes, turned_to_axis
from benchmarks.clip_truth import ClipTruth
from handler.camera import Intrinsics, project
from model_cache.interfaces import BodyModel

LSP_14 = slice(25, 39)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedBody:
    """One body.

    Attributes:
        rotations: the root's in camera axes, the others relative to the parent joint.
        betas: shape.
        translation: of the body's origin, metres, camera axes.
        camera: that `translation` belongs to.
    """

    rotations: Float32[ndarray, "24 3 3"]
    betas: Float32[ndarray, "10"]
    translation: Float32[ndarray, "3"]
    camera: Intrinsics


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyError:
    """How far one found body is off; millimetres but for `pixels`.

    Attributes:
        mpjpe: mean joint error.
        viewed: the same against the true body turned as a crop shows it. A crop shows somebody at the frame's
            side from another angle than the camera's axis, and cannot tell.
        pa_mpjpe: mean joint error after alignment.
        pve: mean error of the skin's vertices; NaN if it was not asked for.
        pixels: mean joint error in the picture.
        found: joints relative to the pelvis, metres.
        true: the true ones.
    """

    mpjpe: float
    viewed: float
    pa_mpjpe: float
    pve: float
    pixels: float
    found: Float64[ndarray, "14 3"]
    true: Float64[ndarray, "14 3"]


class TrueBodies:
    """The true bodies of a clip.

    Args:
        truth: of the clip.
        body: the body that the clip was drawn with.
        skin: also compare vertices, which doubles the work.
    """

    def __init__(self, truth: ClipTruth, body: BodyModel, *, skin: bool) -> None:
        self._truth = truth
        self._body = body
        self._skin = skin

    def of(self, frame: int, person: int) -> PlacedBody:
        """The body of a person in a frame."""
        truth = self._truth
        height, width = truth.owners.shape[1:]
        focal = truth.focal_length_px
        return PlacedBody(
            rotations=truth.rotations[frame, person].astype(np.float32),
            betas=truth.betas[person].astype(np.float32),
            translation=truth.translation[frame, person],
            camera=Intrinsics(fx=focal, fy=focal, cx=width / 2, cy=height / 2),
        )

    def error(self, found: PlacedBody, frame: int, person: int) -> BodyError:
        """Compare with the true body of a person in a frame."""
        true = self.of(frame, person)
        both = (found, true)
        rotations = np.stack([body.rotations for body in both])
        parameters = (rotations[:, :1], rotations[:, 1:], np.stack([body.betas for body in both]))
        joints_44, joints_24 = (joints.astype(np.float64) for joints in self._body.joints(*parameters))
        pelvis, lsp = joints_24[:, :1], joints_44[:, LSP_14]
        places = np.stack([body.translation for body in both]).astype(np.float64)[:, None]
        seen = [project(points, body.camera) for points, body in zip(lsp + places, both, strict=True)]
        body_found, body_true = lsp - pelvis
        turn = turned_to_axis((pelvis + places)[1, 0])
        return BodyError(
            mpjpe=1000 * mean_distance(body_found, body_true),
            viewed=1000 * mean_distance(body_found, body_true @ turn.T),
            pa_mpjpe=1000 * mean_distance(procrustes(body_found, body_true), body_true),
            pve=1000 * mean_distance(*(self._body.vertices(*parameters) - pelvis)) if self._skin else np.nan,
            pixels=mean_distance(*seen),
            found=body_found,
            true=body_true,
        )
