"""HDR shows an SDR picture as it was; highlights share what is left; tags decide."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.source.tone import HLG, KNEE, PQ, ToneMap, needs_tone_map
from tests.hdr_pictures import BT709_TO_BT2020, BT709_TO_P3, hdr_codes

BT2020, P3, BT709, UNSPECIFIED = 9, 12, 1, 2
WHITE = 255 << 8


def mapped(codes: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """BGR levels from code values 0 to 1."""
    return ToneMap(transfer, primaries, WHITE)(np.rint(codes * WHITE).astype(np.uint16))


@pytest.mark.parametrize(
    ("transfer", "primaries", "to_primaries"),
    [
        (PQ, BT2020, BT709_TO_BT2020),
        (HLG, BT2020, BT709_TO_BT2020),
        (PQ, UNSPECIFIED, BT709_TO_BT2020),
        (PQ, P3, BT709_TO_P3),
        (PQ, BT709, np.eye(3)),
        (14, BT2020, BT709_TO_BT2020),
        (1, P3, BT709_TO_P3),
    ],
    ids=["PQ", "HLG", "PQ untagged", "PQ P3", "PQ BT.709", "SDR BT.2020", "SDR P3"],
)
@given(seed=st.integers(0, 10_000))
def test_colours_come_back(transfer, primaries, to_primaries, seed):
    """Every colour of an SDR video that is no highlight comes back to within a level."""
    levels = np.random.default_rng(seed).integers(0, int(255 * KNEE), (5, 40, 3))
    shown = mapped(hdr_codes(levels, transfer, to_primaries), transfer, primaries)

    # The published matrices have four digits: dark channels beside bright ones are uncertain to some levels.
    certain = levels > 40
    assert np.abs(shown.astype(int) - levels)[certain].max(initial=0) <= 2


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_grey_rises_up_to_the_peak(transfer):
    """Black is black, diffuse white is nearly white, the peak is white, and nothing in between falls."""
    codes = np.repeat(np.linspace(0, 1, 4096)[None, :, None], 3, axis=2)
    grey = mapped(codes, transfer, BT2020)[0].astype(int)

    assert grey[0].tolist() == [0, 0, 0]
    assert grey[-1].tolist() == [255, 255, 255]
    assert (np.diff(grey, axis=0) >= 0).all()
    assert np.ptp(grey, axis=1).max() <= 1
    white = hdr_codes(np.full((1, 1, 3), 255), transfer)
    assert mapped(white, transfer, BT2020).ravel().tolist() == [242, 242, 242]


def test_the_transfers_are_those_of_the_standard():
    """BT.2408: 203 nits are 58 % of PQ and 75 % of HLG; BT.2100: 100 nits are 50.8 % of PQ."""
    white = np.full((1, 1, 3), 255)
    assert hdr_codes(white, PQ).mean() == pytest.approx(0.58, abs=0.002)
    assert hdr_codes(white, HLG).mean() == pytest.approx(0.75, abs=0.002)
    half = 255 * (100 / 203) ** (1 / 2.4)
    assert mapped(np.full((1, 1, 3), 0.508), PQ, BT2020).mean() == pytest.approx(half, abs=1)


def test_only_what_needs_it_is_mapped():
    """HDR and wide primaries; ordinary and untagged video is left alone."""
    assert all(needs_tone_map(*tags) for tags in [(16, 9), (18, 9), (16, 2), (18, 1), (14, 9), (1, 12)])
    assert not any(needs_tone_map(*tags) for tags in [(1, 1), (2, 2), (6, 6), (13, 1), (14, 2), (8, 5)])


def test_out_of_gamut_colours_are_clipped():
    """The purest BT.2020 green is the purest green there is, not a wrapped number."""
    codes = np.zeros((1, 1, 3))
    codes[..., 1] = 0.5
    blue, green, red = mapped(codes, PQ, BT2020)[0, 0]

    assert (blue, red) == (0, 0)
    assert green > 150
