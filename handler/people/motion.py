"""Where PHALP expects tracked bodies in the next frame.

PHALP fits three straight lines per track by ridge regression over its last observations: the canvas x and y
of the body's origin and the logarithm of its depth. The official code builds scikit-learn models for it; the
two parameters of each line have a closed form, evaluated here for all tracks at once.
"""

from functools import cache

import numpy as np
from jaxtyping import Float32, Int64
from numpy import ndarray
from scipy.special import stdtrit

from handler.camera import CANVAS_FOCAL_LENGTH, CANVAS_SIZE
from handler.records import CAM_T, DEPTH, INTERVALS, LOCATION_SIZE, ORIGIN, ORIGIN_X, ORIGIN_Y

RIDGE = np.array([1.2, 2.0, 5.0])  # regularisation of the slopes of x, y and log depth
CONFIDENCE = 0.975  # two-sided 95 % prediction interval
LONGEST_EXTRAPOLATION = 48  # frames; PHALP holds the expectation of a track lost for longer


@cache
def _t_quantile(degrees_of_freedom: int) -> float:
    """Student's t at the confidence level (2.5706 for PHALP's seven observations)."""
    return float(stdtrit(degrees_of_freedom, CONFIDENCE))


def predict_locations(
    locations: Float32[ndarray, "n t 99"],
    times: Int64[ndarray, "n t"],
    time_since_update: Int64[ndarray, " n"],
) -> Float32[ndarray, "n 99"]:
    """Location vectors expected one frame from now.

    The joints before `ORIGIN` are those of the last observation, `ORIGIN` and `CAM_T` the expected ones.
    `INTERVALS` are the half widths of the prediction intervals of x, y and depth (as a factor), divided by
    one more than the number of equal neighbours in `times`.

    They are NaN where no line fits (a depth that is not positive), the intervals also where all times are
    equal. Source: PHALP's `get_prediction_interval` and `forward_for_tracking` for "L".

    Args:
        locations: the last t location vectors of each track, oldest first.
        times: their frame indices.
        time_since_update: frames since the last observation, 0 if it is of this frame.
    """
    num, span = times.shape
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        series = np.empty((num, 3, span))
        series[:, 0] = locations[:, :, ORIGIN_X]
        series[:, 1] = locations[:, :, ORIGIN_Y]
        series[:, 2] = np.log(locations[:, :, DEPTH])

        mean_time = times.sum(axis=1) / span  # (n,)
        from_mean = (times - mean_time[:, None])[:, None]  # (n, 1, t)
        spread = (from_mean * from_mean).sum(axis=2)  # (n, 1)
        mean = series.sum(axis=2) / span  # (n, 3)
        centred = series - mean[:, :, None]
        slope = (centred * from_mean).sum(axis=2) / (spread + RIDGE)  # (n, 3)

        ahead = np.minimum(time_since_update, LONGEST_EXTRAPOLATION) + 1 + times[:, -1] - mean_time  # (n,)
        expected = mean + slope * ahead[:, None]

        residual = centred - slope[:, :, None] * from_mean
        deviation = np.sqrt((residual * residual).sum(axis=2) / (span - 2))
        widening = np.sqrt(1 + 1 / span + ahead[:, None] ** 2 / spread)  # (n, 1)
        interval = _t_quantile(span - 2) * deviation * widening
        repeats = span - (times[:, 1:] != times[:, :-1]).sum(axis=1)  # 1 for distinct times

        depth = np.exp(expected[:, 2])
        interval[:, 2] = np.exp(interval[:, 2])
        predicted = np.empty((num, LOCATION_SIZE), np.float32)
        predicted[:, : ORIGIN.start] = locations[:, -1, : ORIGIN.start]
        predicted[:, ORIGIN] = expected[:, :2]
        metres = depth / (CANVAS_FOCAL_LENGTH / CANVAS_SIZE)  # that the canvas is wide at this depth
        predicted[:, CAM_T.start : DEPTH] = (expected[:, :2] - 0.5) * metres[:, None]
        predicted[:, DEPTH] = depth
        predicted[:, INTERVALS] = interval / repeats[:, None]
        predicted[:, INTERVALS.stop :] = 1, 1, 0
    return predicted
