"""Networks and overlay get what a player shows: the right colours."""

import av
import numpy as np
import pytest

from handler.source.picture import Renderer

LIMITED, FULL = 1, 2
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # red, blue


def stored_picture(
    pixel_format: str, matrix: int, colour_range: int, chroma: tuple[int, int] = (120, 138)
) -> tuple[av.VideoFrame, np.ndarray]:
    """A picture of random brightness and one chroma, and the BGR values that arithmetic gives for it."""
    picture = av.VideoFrame(64, 48, pixel_format)
    picture.colorspace, picture.color_range = matrix, colour_range
    bits = picture.format.components[0].bits
    step = 1 << (bits - 8)
    samples = np.random.default_rng(0)
    rows = [
        np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16).reshape(plane.height, -1)
        for plane in picture.planes
    ]
    rows[0][:] = samples.integers(50 * step, 200 * step, rows[0].shape)
    blue, red = (float(value * step) for value in chroma)
    rows[1][:], rows[2][:] = blue, red
    luma = rows[0][:, :64].astype(float)
    if colour_range == LIMITED:
        luma, blue, red = (luma / step - 16) / 219, (blue / step - 128) / 224, (red / step - 128) / 224
    else:
        top = (1 << bits) - 1
        luma, blue, red = luma / top, (blue - 128 * step) / top, (red - 128 * step) / top
    kr, kb = WEIGHTS[matrix]
    r, b = luma + 2 * (1 - kr) * red, luma + 2 * (1 - kb) * blue
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return picture, np.stack([b, g, r], axis=-1).clip(0, 1) * 255


@pytest.mark.parametrize("colour_range", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", sorted(WEIGHTS))
@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le"]
)
def test_colours_are_those_of_arithmetic(pixel_format, matrix, colour_range):
    """No level is lost to rounding on the way from stored to shown colours."""
    renderer = Renderer()
    differences = []
    for chroma in zip(range(110, 150, 3), range(147, 105, -3), strict=True):
        picture, expected = stored_picture(pixel_format, matrix, colour_range, chroma)
        differences.append(renderer.render(picture) - expected)
    difference = np.array(differences)

    # swscale makes full range of more than 8 bits 0.4 % too bright; all else is mere rounding.
    stretched = colour_range == FULL and pixel_format[-2:] == "le"
    assert np.abs(difference).max() < (1.5 if stretched else 0.55)
    assert abs(difference.mean()) < (0.6 if stretched else 0.1)


@pytest.mark.parametrize("matrix", [3, 8, 10, 12, 14, 15])
def test_matrices_that_swscale_lacks_fail_no_job(matrix):
    """A reserved or rare colour matrix is replaced by the nearest known one."""
    picture, expected = stored_picture("yuv420p", 1, LIMITED)
    picture.colorspace = matrix

    np.testing.assert_allclose(Renderer().render(picture), expected, atol=1)
