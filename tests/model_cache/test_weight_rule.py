"""The rule that fills the official files: checked against the numbers that came with the goldens."""

import numpy as np
import pytest

from tests.goldens import load_golden
from tests.weight_rule import weight

CHECKSUMS = load_golden("state_dict_keys.json")["rule_checksums"]


def shape_of(key: str) -> tuple[int, ...]:
    """The shape of an official key, of whichever listing has it."""
    keys = load_golden("state_dict_keys.json")
    for listing in (keys["hmr2_full"], keys["hmar_used"], keys["pose_predictor"]["lart256"]):
        if key in listing:
            return tuple(listing[key]["shape"])
    raise KeyError(key)


@pytest.mark.parametrize("key", CHECKSUMS)
def test_weight_rule_gives_the_stated_tensors(key):
    """First values to the last bit, sum and deviation as listed."""
    tensor = weight(key, shape_of(key))
    expected = CHECKSUMS[key]
    np.testing.assert_array_equal(tensor.ravel()[:4], np.float32(expected["first"]))
    assert tensor.astype(np.float64).sum() == pytest.approx(expected["sum64"], rel=1e-9)
    assert tensor.std() == pytest.approx(expected["std"], rel=1e-6)  # summed in float32
