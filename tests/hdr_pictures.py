"""SDR pictures as HDR code values, so that what comes back can be compared with what went in.

The way of ITU-R BT.2408: SDR white becomes diffuse white of 203 nits. The constants are those of BT.2087
(primaries) and BT.2100 (transfers), written out.
"""

import numpy as np

PQ, HLG = 16, 18
BT709_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
BT709_TO_P3 = np.array([[0.8225, 0.1775, 0], [0.0332, 0.9668, 0], [0.0171, 0.0724, 0.9105]])  # SMPTE EG 432-1


def hdr_codes(image_bgr: np.ndarray, transfer: int, to_primaries: np.ndarray = BT709_TO_BT2020) -> np.ndarray:
    """RGB code values, 0 to 1, that show an SDR picture on an HDR screen."""
    light = (image_bgr[..., ::-1] / 255.0) ** 2.4 @ to_primaries.T  # of 203 nits
    if transfer == PQ:
        power = (light * 203 / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    if transfer == HLG:
        display = light * 203 / 1000
        luminance = display @ [0.2627, 0.6780, 0.0593]
        scene = display * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
        return np.where(
            scene <= 1 / 12,
            np.sqrt(3 * scene),
            0.17883277 * np.log(np.maximum(12 * scene, 1) - 0.28466892) + 0.55991073,
        )
    return light ** (1 / 2.4)


def bt2020_yuv(rgb: np.ndarray) -> np.ndarray:
    """Y'CbCr of 16 bits and limited range from R'G'B' 0 to 1 (BT.2020, non-constant luminance)."""
    red, _, blue = np.moveaxis(rgb, -1, 0)
    luma = rgb @ [0.2627, 0.6780, 0.0593]
    planes = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8814, 128 + 224 * (red - luma) / 1.4746]
    return np.rint(np.stack(planes, axis=-1) * 256).astype(np.uint16)
