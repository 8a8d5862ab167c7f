"""Maps HDR and wide-gamut pictures to BT.709, as an SDR screen shows them.

As in ITU-R BT.2100: code values become display light (for HLG with its system gamma), the primaries become
BT.709's, and light becomes code values of an SDR screen (BT.1886). Diffuse white (BT.2408: 203 nits) becomes
SDR white. What is darker than `KNEE` keeps its brightness, so that people look as in an SDR video; brighter
highlights are compressed into the rest of the range.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8, UInt16
from numpy import ndarray

PQ, HLG = 16, 18  # transfers, ITU-T H.273
WHITE_NITS = 203.0  # diffuse white, BT.2408
PEAK_NITS = 1000.0  # of HLG's reference screen and of most PQ masters; what is brighter is clipped
HLG_GAMMA = 1.2  # system gamma of HLG's reference screen
SDR_GAMMA = 2.4  # BT.1886: display light over white is the code to this power
KNEE = 0.9  # of the SDR signal
STRIPE_ROWS = 64  # worked on at a time: buffers that fit the cache are several times faster

# Chromaticities (x, y) of red, green and blue, by number in ITU-T H.273; white is D65.
BT709_PRIMARIES = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
P3_PRIMARIES = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020_PRIMARIES = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
WIDE_PRIMARIES = {9: BT2020_PRIMARIES, 11: P3_PRIMARIES, 12: P3_PRIMARIES}
PRIMARIES = {1: BT709_PRIMARIES} | WIDE_PRIMARIES
D65 = (0.3127, 0.3290)


def is_hdr(transfer: int) -> bool:
    """Whether a transfer (ITU-T H.273) is PQ or HLG."""
    return transfer in (PQ, HLG)


def needs_tone_map(transfer: int, primaries: int) -> bool:
    """Whether a picture with these tags (ITU-T H.273) looks wrong if it is shown as BT.709."""
    return is_hdr(transfer) or primaries in WIDE_PRIMARIES


class ToneMap:
    """The mapping for one pair of tags. About 40 ms for a frame of 1920 x 1080 on one core.

    Args:
        transfer: ITU-T H.273; any but PQ and HLG is treated as an SDR screen's.
        primaries: ITU-T H.273; unknown ones are BT.2020's in HDR.
        white_code: the code value of 16 bits that stands for 1.
    """

    def __init__(self, transfer: int, primaries: int, white_code: int) -> None:
        from_source = _rgb_to_xyz(PRIMARIES.get(primaries, BT2020_PRIMARIES))
        from_sdr = _rgb_to_xyz(BT709_PRIMARIES)
        code = np.arange(65536) / white_code
        light = code**SDR_GAMMA
        if is_hdr(transfer):
            light = _pq_light(code) if transfer == PQ else _hlg_scene_light(code)
        self._light = light.astype(np.float32)
        self._to_bgr = np.linalg.solve(from_sdr, from_source)[::-1].astype(np.float32)
        self._luminance = from_source[1:2].astype(np.float32)
        self._is_hlg = transfer == HLG
        # The last table is indexed by the root of the light: fine steps where it is dark.
        self._brightest = PEAK_NITS / WHITE_NITS if is_hdr(transfer) else 1.0
        signal = ((np.arange(65536) / 65535) ** 2 * self._brightest) ** (1 / SDR_GAMMA)
        self._code = np.rint(255 * (_compressed(signal) if is_hdr(transfer) else signal)).astype(np.uint8)

    def __call__(self, rgb: UInt16[ndarray, "h w 3"]) -> UInt8[ndarray, "h w 3"]:
        """BGR of an SDR screen from RGB of 16 bits."""
        bgr = np.empty(rgb.shape, np.uint8)
        for top in range(0, len(rgb), STRIPE_ROWS):
            stripe = slice(top, top + STRIPE_ROWS)
            bgr[stripe] = cv2.LUT(self._root_of_light(rgb[stripe]), self._code)
        return bgr

    def _root_of_light(self, rgb: UInt16[ndarray, "h w 3"]) -> UInt16[ndarray, "h w 3"]:
        light: Float32[ndarray, "h w 3"] = cv2.LUT(rgb, self._light)
        bgr = cv2.transform(light, self._to_bgr)
        if self._is_hlg:
            gain = cv2.pow(cv2.transform(light, self._luminance), HLG_GAMMA - 1)
            bgr *= gain[..., None] * np.float32(self._brightest)
        np.clip(bgr, 0, self._brightest, out=bgr)
        root = cv2.sqrt(bgr)
        root *= np.float32(65535 / self._brightest**0.5)
        return np.asarray(root, np.uint16)


def _pq_light(code: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """Display light over white (BT.2100, table 4)."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = code ** (1 / m2)
    light: Float[ndarray, " n"] = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return light * 10_000 / WHITE_NITS


def _hlg_scene_light(code: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """Scene light, 0 to 1 (BT.2100, table 5)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def _compressed(signal: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """The SDR signal with its highlights compressed so that the peak just reaches 1 (extended Reinhard)."""
    peak = ((PEAK_NITS / WHITE_NITS) ** (1 / SDR_GAMMA) - KNEE) / (1 - KNEE)
    above = np.maximum(signal - KNEE, 0) / (1 - KNEE)
    highlights: Float[ndarray, " n"] = above * (1 + above / peak**2) / (1 + above)
    return np.asarray(np.minimum(signal, KNEE) + (1 - KNEE) * highlights)


def _rgb_to_xyz(chromaticities: tuple[tuple[float, float], ...]) -> Float[ndarray, "3 3"]:
    """From linear RGB to CIE XYZ with Y = 1 for white (SMPTE RP 177)."""
    primaries = np.array([(x / y, 1, (1 - x - y) / y) for x, y in chromaticities]).T
    x, y = D65
    white = np.array([x / y, 1, (1 - x - y) / y])
    return primaries * np.linalg.solve(primaries, white)
