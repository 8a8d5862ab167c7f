"""People who walk, turn, stop and gesture along random paths, as body parameters per instant.

World frame: x left, y up, z away from the audience, floor at y = 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from training.body import Body, PosedBody
from training.look import Look, draw_look
from training.poses import Gait, draw_gait, draw_pose, walk

FINE = 100.0  # path samples per second
PACE = 1.25  # metres per second above which the gait has its full swing


@dataclass(frozen=True, slots=True)
class Instant:
    """One person at one time, in world axes.

    Attributes:
        rotations: (24, 3, 3), root in world axes (y up).
        place: (3,) translation of the body's origin.
        posed: the posed body in world axes, without translation.
    """

    rotations: NDArray[np.float32]
    place: NDArray[np.float64]
    posed: PosedBody


class Actor:
    """One person's whole motion.

    Args:
        rng: draws everything about the person.
        lane: distance from the audience that the path keeps near, metres.
        seconds: length of the motion.
        leaves: walk out of sight and come back.
        half_width: how far to the side of the lane's middle the stage goes, metres at the lane.
        home: where on the lane the person stops now and then; apart from others', so that people pass each
            other but do not stand behind one another.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        body: Body,
        *,
        lane: float,
        seconds: float,
        leaves: bool,
        half_width: float,
        home: float = 0.0,
    ) -> None:
        self._body = body
        self.look: Look = draw_look(rng)
        self.betas = np.clip(rng.normal(0, 0.7, 10), -1.6, 1.6).astype(np.float32)
        self._gait: Gait = draw_gait(rng, running=False)
        times, points = _draw_path(rng, lane, seconds, leaves, half_width, home)
        fine = np.arange(0, seconds + 1 / FINE, 1 / FINE)
        self._path = PchipInterpolator(times, points, axis=0)(fine)  # (t, 2) x and z
        velocity = np.gradient(self._path, 1 / FINE, axis=0)
        speed = np.linalg.norm(velocity, axis=1)
        self._effort = _smooth(np.clip(speed / PACE, 0, 1.25), 0.25)
        self._yaw = _headings(velocity, speed, rng.uniform(-np.pi, np.pi))
        rate = np.where(speed > 0.05, speed / (0.75 + 0.42 * speed), 0)
        self._phase = rng.uniform() + np.cumsum(rate) / FINE
        self._gestures = [draw_pose(rng) for _ in range(2)]
        standing = _smooth((self._effort < 0.25).astype(float), 0.5)
        switch = (np.sin(2 * np.pi * fine / rng.uniform(2.5, 5.0) + rng.uniform(0, 6)) > 0).astype(float)
        self._gesture_share = standing * _smooth(switch, 0.5)

    def at(self, time: float) -> Instant:
        """The person at a time in seconds."""
        matrices = self.rotations_at(time)
        posed = self._body.pose(matrices, self.betas)
        x, z = self._path[self._index(time)]
        place = np.array([x, -float(posed.vertices[:, 1].min()), z])
        return Instant(matrices, place, posed)

    def _index(self, time: float) -> int:
        return min(round(time * FINE), len(self._yaw) - 1)

    def rotations_at(self, time: float) -> NDArray[np.float32]:
        """Joint rotations (24, 3, 3), root in world axes."""
        index = self._index(time)
        effort = self._effort[index]
        stand, full = walk(0.25, _scaled(self._gait, 0.0)), walk(self._phase[index], self._gait)
        euler = stand.euler + (full.euler - stand.euler) * effort
        rotations = Rotation.from_euler("xyz", euler, degrees=True)
        share = self._gesture_share[index]
        if share > 0.01:
            gesture = Rotation.from_euler("xyz", self._upper_body_of(index), degrees=True)
            rotations = rotations * Rotation.from_rotvec((rotations.inv() * gesture).as_rotvec() * share)
        matrices = rotations.as_matrix()
        matrices[0] = Rotation.from_euler("y", self._yaw[index]).as_matrix() @ matrices[0]
        return np.asarray(matrices, np.float32)

    def _upper_body_of(self, index: int) -> NDArray[np.float64]:
        """Gesture angles: the drawn pose above the hips, standing legs below."""
        euler = walk(0.25, _scaled(self._gait, 0.0)).euler
        gesture = self._gestures[index * 2 // (len(self._yaw) + 1)].euler
        upper = [3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
        euler[upper] = gesture[upper]
        return euler


def _draw_path(
    rng: np.random.Generator, lane: float, seconds: float, leaves: bool, half_width: float, home: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Waypoints along the lane, from side to side with stops at home, and their times."""
    side = rng.choice([-1, 1])
    times, points = (
        [0.0],
        [[home if rng.uniform() < 0.5 else side * rng.uniform(0.6, 0.95) * half_width, lane]],
    )
    away = rng.uniform(0.3, 0.6) * seconds if leaves else np.inf
    while times[-1] < seconds:
        side = -side
        stops = rng.uniform() < 0.5 and abs(home - points[-1][0]) > 0.5
        x = home if stops else side * rng.uniform(0.5, 0.95) * half_width
        if times[-1] > away:
            x, away, stops = side * (1.75 * half_width + 0.5), np.inf, False
        target = [x, lane + rng.normal(0, 0.1)]
        distance = float(np.hypot(target[0] - points[-1][0], target[1] - points[-1][1]))
        times.append(times[-1] + distance / rng.uniform(0.9, 1.5) + 0.3)
        points.append(target)
        if stops:
            times.append(times[-1] + rng.uniform(1.2, 3.0))
            points.append([target[0] + 0.02, target[1]])
    return np.array(times), np.array(points)


def _headings(velocity: NDArray[np.float64], speed: NDArray[np.float64], start: float) -> NDArray[np.float64]:
    """Yaw over time: along the path while walking, kept while standing, turned at a human rate."""
    yaw = np.empty(len(speed))
    wanted = np.arctan2(velocity[:, 0], velocity[:, 1])
    current = wanted[speed > 0.3][0] if (speed > 0.3).any() else start
    for index in range(len(speed)):
        if speed[index] > 0.25:
            difference = (wanted[index] - current + np.pi) % (2 * np.pi) - np.pi
            current += np.clip(difference * 6 / FINE, -4.5 / FINE, 4.5 / FINE)
        yaw[index] = current
    return yaw


def _smooth(values: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    width = max(int(seconds * FINE), 1)
    padded = np.pad(values, width, mode="edge")
    kernel = np.hanning(2 * width + 1)
    return np.convolve(padded, kernel / kernel.sum(), mode="same")[width:-width]


def _scaled(gait: Gait, share: float) -> Gait:
    return Gait(
        stride=gait.stride * share,
        knee=gait.knee * share,
        arm=gait.arm * share,
        elbow=gait.elbow,
        arm_down=gait.arm_down,
        leg_spread=gait.leg_spread,
        lean=gait.lean * share,
        head_turn=gait.head_turn,
        head_down=gait.head_down,
    )
