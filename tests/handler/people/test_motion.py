"""Where tracks are expected next, against PHALP and against ordinary regression."""

import numpy as np
import pytest
from scipy import stats

from handler.people.motion import predict_locations


def test_predict_locations_is_phalps(golden):
    """All golden histories: regular, padded, with gaps, long lost; NaN exactly where the official has it."""
    data = golden("location")
    predicted = predict_locations(data["loca"], data["times"], data["time_since_update"])

    np.testing.assert_allclose(predicted, data["out"], rtol=2e-5, atol=1e-7)


def _history(x, y, depth):
    locations = np.zeros((1, len(x), 99), np.float32)
    locations[0, :, 88], locations[0, :, 89], locations[0, :, 92] = x, y, depth
    return locations


@pytest.mark.parametrize("span", [3, 7, 12])
def test_predict_locations_fits_a_line_by_ridge_regression(span):
    """Centre and interval are those of a ridge line with the textbook prediction interval."""
    rng = np.random.default_rng(span)
    times = np.sort(rng.choice(40, span, replace=False))
    x = rng.uniform(0.2, 0.8, span).astype(np.float32).astype(float)
    predicted = predict_locations(_history(x, x, np.full(span, 50)), times[None], np.array([3]))[0]
    asked = 3 + 1 + times[-1] - times.mean()
    spread = ((times - times.mean()) ** 2).sum()
    slope = (x - x.mean()) @ (times - times.mean()) / (spread + 1.2)
    deviation = np.sqrt(((x - x.mean() - slope * (times - times.mean())) ** 2).sum() / (span - 2))
    half_width = stats.t.ppf(0.975, span - 2) * deviation * np.sqrt(1 + 1 / span + asked**2 / spread)

    np.testing.assert_allclose(predicted[88], x.mean() + slope * asked, rtol=1e-5)
    np.testing.assert_allclose(predicted[93], half_width, rtol=1e-5)


def test_predict_locations_keeps_a_still_body_where_it_is():
    """No motion, no drift, and no doubt about it."""
    predicted = predict_locations(
        _history(np.full(7, 0.25), np.full(7, 0.75), np.full(7, 80)), np.arange(7)[None], np.array([5])
    )[0]

    np.testing.assert_allclose(predicted[[88, 89, 92]], [0.25, 0.75, 80], rtol=1e-6)
    np.testing.assert_allclose(predicted[90:92], np.array([-0.25, 0.25]) * 80 * 256 / 5000, rtol=1e-5)
    np.testing.assert_allclose(predicted[93:96], [0, 0, 1], atol=1e-6)


def test_predict_locations_stops_extrapolating_after_48_frames():
    """A body lost for longer is expected where it was expected then."""
    locations = _history(np.linspace(0.2, 0.3, 7), np.linspace(0.2, 0.3, 7), np.linspace(50, 60, 7))
    times = np.arange(7)[None]
    late = predict_locations(locations, times, np.array([48]))

    np.testing.assert_array_equal(late, predict_locations(locations, times, np.array([200])))
    assert (late != predict_locations(locations, times, np.array([47]))).any()
