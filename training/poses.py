"""Draw natural body poses: standing, walking, reaching, sitting, crouching, bending, wild.

A pose is 23 joint rotations relative to the parent (joints 1 to 23)
and a tilt of the root against upright. The axes are those of SMPL in T-pose: x left, y up, z forward.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from training import skeleton as sk

Array = NDArray[np.float64]
SIDES = (
    (1, sk.L_SHOULDER, sk.L_ELBOW, sk.L_WRIST, sk.L_HIP, sk.L_KNEE, sk.L_ANKLE, sk.L_COLLAR),
    (-1, sk.R_SHOULDER, sk.R_ELBOW, sk.R_WRIST, sk.R_HIP, sk.R_KNEE, sk.R_ANKLE, sk.R_COLLAR),
)


@dataclass(slots=True)
class Angles:
    """A pose in the making: Euler angles (24, 3) in degrees, applied x, then y, then z about fixed axes.

    Row 0 is the tilt of the root.
    """

    euler: Array

    @staticmethod
    def rest() -> "Angles":
        """Arms hanging, legs straight."""
        angles = Angles(np.zeros((24, 3)))
        for sign, shoulder, elbow, *_ in SIDES:
            angles.euler[shoulder] = [0, 0, -sign * 72]
            angles.euler[elbow] = [0, -sign * 12, 0]
        return angles

    def matrices(self) -> Array:
        """Rotation matrices (24, 3, 3)."""
        return Rotation.from_euler("xyz", self.euler, degrees=True).as_matrix()


def walk(phase: float, style: "Gait") -> Angles:
    """One instant of a gait. `phase` is in cycles; 0 is the left heel's strike."""
    angles = Angles.rest()
    euler = angles.euler
    swing = 2 * np.pi * phase
    for sign, shoulder, elbow, _, hip, knee, ankle, _ in SIDES:
        own = swing if sign > 0 else swing + np.pi
        thigh = style.stride * np.cos(own) + style.stride * 0.15
        euler[hip, 0] = -thigh
        euler[hip, 2] = sign * style.leg_spread
        lift = np.clip(-np.sin(own + 0.35), 0, None) ** 1.5  # the leg bends while it swings forward
        euler[knee, 0] = style.knee * lift + 6 + 8 * np.clip(np.sin(own), 0, None)
        euler[ankle, 0] = (
            0.45 * thigh - 0.35 * euler[knee, 0] * (1 - lift) + 12 * np.clip(np.sin(own - 1.9), 0, None)
        )
        back = style.arm * np.cos(own)
        euler[shoulder] = _shoulder(sign, -back, 90 - style.arm_down, 0.0)
        euler[elbow] = [0, -sign * (style.elbow + 0.35 * style.arm * (1 - np.cos(own))), 0]
    euler[0] = [style.lean, 0, 2.5 * np.sin(swing)]
    euler[sk.SPINE1] = [1, 3 * np.cos(swing), 0]
    euler[sk.SPINE3] = [1, 5 * np.cos(swing), -1.5 * np.sin(swing)]
    euler[sk.NECK] = [-style.lean * 0.6 + style.head_down, style.head_turn * 0.5, 0]
    euler[sk.HEAD] = [0, style.head_turn * 0.5, 0]
    return angles


@dataclass(frozen=True, slots=True)
class Gait:
    """How somebody walks or runs; angles in degrees."""

    stride: float
    knee: float
    arm: float
    elbow: float
    arm_down: float
    leg_spread: float
    lean: float
    head_turn: float
    head_down: float


def draw_gait(rng: np.random.Generator, running: bool) -> Gait:
    """A random gait."""
    effort = 1.0 if running else 0.0
    return Gait(
        stride=rng.uniform(16, 30) + effort * rng.uniform(8, 22),
        knee=rng.uniform(45, 65) + effort * rng.uniform(20, 55),
        arm=rng.uniform(8, 28) + effort * rng.uniform(5, 25),
        elbow=rng.uniform(5, 30) + effort * rng.uniform(45, 75),
        arm_down=rng.uniform(66, 82) - effort * 6,
        leg_spread=rng.uniform(-2, 4),
        lean=rng.uniform(-2, 6) + effort * rng.uniform(2, 10),
        head_turn=rng.normal(0, 15),
        head_down=rng.normal(2, 8),
    )


@dataclass(frozen=True, slots=True)
class Mix:
    """How often what is drawn."""

    legs: tuple[float, ...]  # of LEGS
    arms: tuple[float, ...]  # of ARMS
    arms_while_walking: float  # that one or both do something else than swing


LEGS = ("gait", "run", "stand", "crouch", "sit", "lunge", "kick", "wild")
ARMS = ("hang", "hip", "front", "side", "up", "any")
VARIED = Mix((0.22, 0.14, 0.2, 0.1, 0.09, 0.1, 0.07, 0.08), (0.26, 0.1, 0.24, 0.12, 0.13, 0.15), 0.5)
EVERYDAY = Mix((0.42, 0.08, 0.3, 0.05, 0.05, 0.05, 0.03, 0.02), (0.55, 0.08, 0.17, 0.07, 0.06, 0.07), 0.25)


def draw_pose(rng: np.random.Generator, mix: Mix = VARIED) -> Angles:
    """A random pose: legs, trunk, arms and head are drawn one by one, so that everything combines."""
    kind = rng.choice(LEGS, p=mix.legs)
    if kind in ("gait", "run"):
        angles = walk(rng.uniform(), draw_gait(rng, kind == "run"))
        if rng.uniform() < mix.arms_while_walking:
            _draw_arms(rng, angles, mix, one_only=rng.uniform() < 0.5)
    else:
        angles = Angles.rest()
        _draw_legs(rng, angles, str(kind))
        _draw_trunk(rng, angles, bent=kind in ("crouch", "sit", "lunge", "wild"))
        _draw_arms(rng, angles, mix)
    angles.euler[1:] += rng.normal(0, 3.5, (23, 3))
    for sign, _, _, wrist, *_ in SIDES:
        angles.euler[wrist] += [rng.normal(0, 25), rng.normal(0, 12), sign * rng.normal(0, 18)]
    return angles


def _draw_legs(rng: np.random.Generator, angles: Angles, kind: str) -> None:
    euler = angles.euler
    common = {"stand": 4, "crouch": rng.uniform(35, 115), "sit": rng.uniform(70, 100)}.get(kind, 10.0)
    spread = abs(rng.normal(0, 9)) + (rng.uniform(0, 22) if kind in ("crouch", "sit", "wild") else 0)
    lifted = rng.integers(2)
    for index, (sign, _, _, _, hip, knee, ankle, _) in enumerate(SIDES):
        flexion = common + rng.normal(0, 5)
        bend = max(flexion * rng.uniform(0.85, 1.25), 0) if kind != "stand" else abs(rng.normal(3, 4))
        if kind == "lunge":
            forward = index == lifted
            flexion = rng.uniform(30, 85) if forward else rng.uniform(-30, -5)
            bend = rng.uniform(30, 95) if forward else rng.uniform(5, 70)
        elif kind == "kick" and index == lifted:
            flexion, bend = rng.uniform(20, 100), rng.uniform(0, 110)
        elif kind == "wild":
            flexion, bend = rng.uniform(-25, 115), rng.uniform(0, 130)
        turn = rng.normal(0, 10)
        euler[hip] = [-flexion, sign * turn, sign * (spread + rng.normal(0, 3))]
        euler[knee] = [bend, 0, 0]
        euler[ankle] = [np.clip(flexion - bend, -30, 25) + rng.normal(0, 6), 0, 0]


def _draw_trunk(rng: np.random.Generator, angles: Angles, bent: bool) -> None:
    euler = angles.euler
    forward = rng.normal(0, 7) + (rng.uniform(-5, 45) if bent else 0)
    twist, side = rng.normal(0, 12), rng.normal(0, 7)
    for joint, share in ((sk.SPINE1, 0.4), (sk.SPINE2, 0.3), (sk.SPINE3, 0.3)):
        euler[joint] = [forward * share, twist * share, side * share]
    euler[0] = [rng.normal(0, 5) + (rng.uniform(-5, 30) if bent else 0), 0, rng.normal(0, 4)]
    euler[sk.NECK] = [rng.normal(-forward * 0.2, 8), rng.normal(0, 14), rng.normal(0, 5)]
    euler[sk.HEAD] = [rng.normal(0, 8), rng.normal(0, 14), rng.normal(0, 5)]


def _draw_arms(rng: np.random.Generator, angles: Angles, mix: Mix, one_only: bool = False) -> None:
    euler = angles.euler
    mirrored = rng.uniform() < 0.3
    first: Array | None = None
    for sign, shoulder, elbow, _, _, _, _, collar in SIDES if rng.integers(2) else SIDES[::-1]:
        arm = first + rng.normal(0, 6, 4) if first is not None and mirrored else _draw_arm(rng, mix)
        first = arm
        raise_forward, out, twist, bend = arm
        euler[shoulder] = _shoulder(sign, raise_forward, out, twist)
        euler[elbow] = [0, -sign * bend, 0]
        euler[collar] = [0, 0, sign * max(out - 70, 0) * 0.2]
        if one_only:
            return


def _shoulder(sign: int, raise_forward: float, out: float, twist: float) -> Array:
    """Euler angles of a shoulder: twist about the arm, lower it from the T-pose, then swing it forward."""
    rotation = (
        Rotation.from_euler("x", -raise_forward, degrees=True)
        * Rotation.from_euler("z", sign * (out - 90), degrees=True)
        * Rotation.from_euler("x", twist, degrees=True)
    )
    return np.asarray(rotation.as_euler("xyz", degrees=True))


def _draw_arm(rng: np.random.Generator, mix: Mix) -> Array:
    """Forward swing, sideways lift from hanging, twist (positive: palm up) and elbow bend, degrees."""
    kind = rng.choice(ARMS, p=mix.arms)
    if kind == "hang":
        return np.array([rng.normal(0, 18), rng.uniform(3, 28), rng.normal(0, 20), abs(rng.normal(15, 18))])
    if kind == "hip":
        return np.array([rng.normal(-20, 10), rng.uniform(35, 60), rng.normal(-60, 15), rng.uniform(75, 115)])
    if kind == "front":
        return np.array([rng.uniform(20, 110), rng.uniform(-10, 35), rng.normal(0, 35), rng.uniform(0, 130)])
    if kind == "side":
        return np.array([rng.normal(0, 20), rng.uniform(50, 110), rng.normal(0, 45), abs(rng.normal(0, 50))])
    if kind == "up":
        return np.array(
            [rng.uniform(-20, 90), rng.uniform(110, 165), rng.normal(0, 40), abs(rng.normal(0, 50))]
        )
    return np.array([rng.uniform(-50, 150), rng.uniform(-15, 150), rng.uniform(-80, 80), rng.uniform(0, 145)])
