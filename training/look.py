"""Draw what a person wears: skin, hair, top, trousers, shoes, as numbers for the shader and as padding."""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SKIN_TONES = np.array([[0.95, 0.78, 0.68], [0.9, 0.7, 0.57], [0.8, 0.58, 0.44], [0.62, 0.42, 0.3],
                       [0.45, 0.29, 0.2], [0.3, 0.19, 0.14]])  # fmt: skip
HAIR_TONES = np.array([[0.06, 0.05, 0.05], [0.2, 0.12, 0.07], [0.38, 0.24, 0.12], [0.7, 0.55, 0.3],
                       [0.55, 0.54, 0.53], [0.45, 0.16, 0.07]])  # fmt: skip
WAIST, ANKLE = -0.1, -1.1  # T-pose heights of the free body, metres


@dataclass(frozen=True, slots=True)
class Look:
    """One person's appearance.

    Attributes:
        packed: (36,) the numbers `render.shade` reads.
        top_padding, trouser_padding, hair_padding: how far cloth and hair stand off the body, metres.
    """

    packed: NDArray[np.float32]
    top_padding: float
    trouser_padding: float
    hair_padding: float

    def padding(self, template: NDArray[np.float32]) -> NDArray[np.float32]:
        """How far each vertex is moved along its normal (v,)."""
        x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
        look = self.packed
        arm = (x > 0.17) & (y > 0.12)
        top = np.where(arm, x < look[24], (y > look[25]) & (y < 0.3))
        trousers = ~arm & (y < look[28]) & (y > look[26]) & ~top
        scalp = (y > 0.55 - look[30]) | ((z < 0.165) & (y > 0.44 - look[31]))
        hair = (x < 0.12) & (y > 0.37) & scalp & (look[32] > 0.5)
        return (top * self.top_padding + trousers * self.trouser_padding + hair * self.hair_padding).astype(
            np.float32
        )


def draw_look(rng: np.random.Generator) -> Look:
    """Random clothes: any colours, plain or patterned, short or long."""
    packed = np.zeros(36, np.float32)
    packed[0:3] = np.clip(SKIN_TONES[rng.integers(6)] * rng.uniform(0.9, 1.08), 0, 1)
    packed[3:6] = np.clip(HAIR_TONES[rng.integers(6)] * rng.uniform(0.7, 1.3), 0, 1)
    packed[6:9] = draw_colour(rng)
    packed[9:12] = draw_colour(rng, dull=0.6)
    packed[12:15] = draw_colour(rng, dull=0.6)
    packed[15:18] = draw_colour(rng)
    packed[20] = rng.choice([0, 1, 2, 3, 4, 5, 6], p=[0.4, 0.14, 0.1, 0.1, 0.1, 0.1, 0.06])
    packed[21] = rng.uniform(8, 22)
    packed[22] = rng.choice([0, 2, 3, 5], p=[0.82, 0.06, 0.06, 0.06])
    packed[23] = rng.uniform(8, 22)
    packed[24] = rng.choice([rng.uniform(0.2, 0.25), rng.uniform(0.28, 0.44), rng.uniform(0.66, 0.72)],
                            p=[0.12, 0.44, 0.44])  # fmt: skip
    packed[25] = rng.choice([rng.uniform(-0.22, WAIST), rng.uniform(-0.45, -0.25)], p=[0.8, 0.2])
    packed[28] = packed[25] + 0.05
    packed[26] = rng.choice([rng.uniform(-0.6, -0.4), rng.uniform(-1.0, -0.7), -1.14], p=[0.2, 0.12, 0.68])
    packed[27] = rng.choice([ANKLE - 0.02, ANKLE + 0.03, -0.85, -9.0], p=[0.5, 0.38, 0.07, 0.05])
    packed[30] = rng.uniform(-0.01, 0.03)
    packed[31] = rng.choice([0.0, 0.06], p=[0.6, 0.4])
    packed[32] = float(rng.uniform() < 0.94)
    packed[33] = float(rng.uniform() < 0.15)
    packed[34] = rng.choice([0.3, rng.uniform(0.2, 0.28)], p=[0.7, 0.3])
    return Look(
        packed=packed,
        top_padding=rng.uniform(0.002, 0.022),
        trouser_padding=rng.uniform(0.002, 0.02),
        hair_padding=rng.uniform(0.005, 0.035),
    )


def draw_colour(rng: np.random.Generator, dull: float = 0.25) -> NDArray[np.float64]:
    """A cloth colour; with probability `dull` a grey, brown or navy."""
    if rng.uniform() < dull:
        hue, saturation, value = rng.uniform(), rng.uniform(0, 0.25), rng.uniform(0.05, 0.9)
    else:
        hue, saturation, value = rng.uniform(), rng.uniform(0.3, 0.95), rng.uniform(0.2, 0.95)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))
