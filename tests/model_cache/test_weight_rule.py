"""The rule that fills the official files: checked against the numbers that came with the goldens."""

import numpy as np
import pytest

from tests.goldens import load_golden
from tests.weight_rule import weight

KEYS = load_golden("state_dict_keys.json")
CHECKSUMS = KEYS["rule_checksums"]
LISTED = KEYS["hmr2_full"] | KEYS["hmar_used"] | KEYS["pose_predictor"]["lart256"]


@pytest.mark.parametrize("key", CHECKSUMS)
def test_weight_rule_gives_the_stated_tensors(key):
    """First values to the last bit, sum and deviation as listed."""
    tensor = weight(key, tuple(LISTED[key]["shape"]))
    expected = CHECKSUMS[key]
    np.testing.assert_array_equal(tensor.ravel()[:4], np.float32(expected["first"]))
    assert tensor.astype(np.float64).sum() == pytest.approx(expected["sum64"], rel=1e-9)
    assert tensor.std() == pytest.approx(expected["std"], rel=1e-6)  # summed in float32
