"""Networks and overlay get what a player shows: the right colours, square pixels, one moment, SDR."""

import struct
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handler.errors import InputError
from handler.records import PictureTags
from handler.settings import IntakeSettings
from handler.source.picture import (
    Orientation,
    Renderer,
    complete_tags,
    deinterlace,
    fit,
    orientation_of_matrix,
    square_size,
    turn_upright,
)
from handler.source.probe import probe
from tests.handler.source.decoding import LIMITS, codes, frames_of, numbers, seconds_of
from tests.hdr_pictures import hdr_codes
from tests.video_factory import draw_frame, join, make_video

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
    renderer = Renderer(Fraction(1))
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

    np.testing.assert_allclose(Renderer(Fraction(1)).render(picture), expected, atol=1)


def test_a_picture_without_tags_has_those_of_its_container():
    """The container speaks only where the picture itself says nothing."""
    for own, expected in (((2, 2, 2, 0), (18, 9, 9, 1)), ((1, 1, 1, FULL), (1, 1, 1, FULL))):
        frame = av.VideoFrame(16, 16, "yuv420p")
        frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = own
        complete_tags(frame, PictureTags(transfer=18, primaries=9, matrix=9, colour_range=1))
        assert (frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range) == expected


@pytest.mark.parametrize(
    ("more", "rotation"),
    [
        ({"codec": "libx265", "pixel_format": "yuv420p10le", "transfer": 16}, 0),
        ({"codec": "libx265", "pixel_format": "yuv420p10le", "transfer": 18}, 90),
        ({"codec": "libx264", "pixel_format": "yuv420p10le", "transfer": 18}, 0),
        ({"codec": "libsvtav1", "pixel_format": "yuv420p10le", "transfer": 16}, 0),
        # Only the container says that these are HDR: ProRes as FFmpeg writes it.
        ({"name": "a.mov", "codec": "prores_ks", "pixel_format": "yuv422p10le", "transfer": 18}, 0),
    ],
    ids=["PQ", "HLG turned", "HLG H.264", "PQ AV1", "HLG ProRes"],
)
def test_hdr_looks_like_the_sdr_it_was_made_from(tmp_path, more, rotation):
    """A picture that went to HDR and back is itself again."""
    path = make_video(tmp_path / more.pop("name", "a.mp4"), num_frames=3, rotation=rotation, **more)

    frames, report = frames_of(path)
    facts = probe(path, LIMITS)

    assert numbers(frames) == [0, 1, 2]
    shown, drawn = (cv2.erode(image, None, iterations=3) for image in (frames[0].image_bgr, draw_frame(0)))
    np.testing.assert_allclose(shown.astype(int), drawn, atol=3)  # the codecs' own noise; as stored: up to 60
    assert facts.is_hdr
    assert [warning.code for warning in facts.warnings] == ["HDR_TONE_MAPPED"]
    assert codes(report) == []


@pytest.mark.parametrize("colour_range", [LIMITED, FULL], ids=["limited", "full"])
@pytest.mark.parametrize(("pixel_format", "bits"), [("yuv444p10le", 10), ("yuv444p12le", 12), ("yuv444p", 8)])
@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_hdr_of_every_range_and_depth(transfer, pixel_format, bits, colour_range):
    """Greys of an SDR picture keep their level, however HDR stores them."""
    levels = np.arange(0, 225, 4)
    codes = hdr_codes(np.repeat(levels[None, :, None], 3, axis=2), transfer)[..., 0]
    picture = av.VideoFrame(len(levels), 1, pixel_format)
    picture.color_trc, picture.color_range = transfer, colour_range
    luma, *chroma = [
        np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)[: len(levels)] for plane in picture.planes
    ]
    step = 1 << (bits - 8)
    luma[:] = np.rint(
        (16 + 219 * codes[0]) * step if colour_range == LIMITED else codes[0] * (256 * step - 1)
    )
    for samples in chroma:
        samples[:] = 128 * step

    shown = Renderer(Fraction(1)).render(picture)[0]

    # One code value of 8 bits is up to four levels.
    np.testing.assert_allclose(shown, np.repeat(levels[:, None], 3, axis=1), atol=1 if bits > 8 else 4)


def test_hdr_that_begins_in_the_middle_is_mapped_and_said(tmp_path):
    """Every picture goes by its own tags."""
    more = {"num_frames": 12, "codec": "libx265", "pixel_format": "yuv420p10le", "b_frames": 0}
    sdr = make_video(tmp_path / "sdr.ts", **more)
    hdr = make_video(tmp_path / "hdr.ts", transfer=18, first_index=12, **more)

    frames, report = frames_of(join(tmp_path / "a.ts", sdr, hdr))

    assert numbers(frames) == list(range(24))
    mapped = [warning for warning in report.warnings if warning.code == "HDR_TONE_MAPPED"]
    assert [warning.frame_index for warning in mapped] == [12]


def draw_disc(index: int, size: tuple[int, int]) -> np.ndarray:
    """A white disc in the middle of the picture: round only where pixels are square."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    return cv2.circle(image, (width // 2, height // 2), 40, (255, 255, 255), -1)


@pytest.mark.parametrize(
    ("name", "aspect", "rotation", "size"),
    [
        ("a.mp4", Fraction(64, 45), 0, (171, 120)),
        ("a.mkv", Fraction(2), 0, (240, 120)),
        ("a.ts", Fraction(8, 9), 0, (120, 135)),
        ("a.mp4", Fraction(1, 2), 0, (120, 240)),
        ("a.mp4", Fraction(2), 90, (120, 240)),
        ("a.mov", Fraction(4, 3), 270, (120, 160)),
        ("a.mp4", Fraction(4, 3), 180, (160, 120)),
    ],
)
def test_pixels_become_square(tmp_path, name, aspect, rotation, size):
    """A disc stored with pixels of another shape is round in the frames, and the sizes say so."""

    def squeezed(index, stored_size):
        return cv2.resize(draw_disc(index, size), stored_size, interpolation=cv2.INTER_AREA)

    path = make_video(
        tmp_path / name,
        num_frames=12,
        size=(120, 120),
        aspect=aspect,
        rotation=rotation,
        draw=squeezed,
        pixel_format="yuv444p",
    )

    frames, report = frames_of(path)
    facts = probe(path, LIMITS)

    assert (facts.width, facts.height) == size
    assert frames[0].image_bgr.shape == (size[1], size[0], 3)
    rows, columns = np.nonzero(frames[0].image_bgr[..., 1] > 127)
    assert np.ptp(columns) == pytest.approx(80, abs=2)
    assert np.ptp(rows) == pytest.approx(80, abs=2)
    assert [warning.code for warning in facts.warnings] == ["PIXELS_NOT_SQUARE"]
    upright = f"{size[1]} x {size[0]}" if rotation % 180 else f"{size[0]} x {size[1]}"
    assert upright in facts.warnings[0].message
    assert codes(report) == []


@given(st.integers(1, 8000), st.integers(1, 8000), st.integers(250, 4000))
def test_squaring_loses_no_pixel(width, height, thousandths):
    """One side grows, the other stays, and the shape is right to within half a pixel."""
    aspect = Fraction(thousandths, 1000)
    exact = (width * aspect, height) if aspect > 1 else (width, height / aspect)
    square = square_size(width, height, aspect)

    assert (square[0] >= width, square[1] >= height) == (True, True)
    assert max(abs(side - ideal) for side, ideal in zip(square, exact, strict=True)) <= Fraction(1, 2)


def test_square_frames_keep_to_the_limit(tmp_path):
    """What counts is the size at which the frames are used."""
    path = make_video(tmp_path / "a.mp4", num_frames=2, size=(160, 96), aspect=Fraction(2))

    assert probe(path, IntakeSettings(max_pixels=320 * 96)).width == 320
    with pytest.raises(InputError, match="320 x 96"):
        probe(path, IntakeSettings(max_pixels=320 * 96 - 1))


def test_absurd_pixels_are_taken_for_square(tmp_path):
    """A header that calls its pixels 20 times as high as wide is not believed."""
    facts = probe(make_video(tmp_path / "a.mp4", num_frames=2, aspect=Fraction(1, 20)), LIMITS)

    assert (facts.width, facts.height) == (128, 96)
    assert [warning.code for warning in facts.warnings] == ["PIXELS_NOT_SQUARE"]
    assert "not believed" in facts.warnings[0].message


def draw_bar(index: int, size: tuple[int, int]) -> np.ndarray:
    """A bright block before a grey wall; it moves 8 pixels a frame to the right and down."""
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    image[8 + 8 * index : 28 + 8 * index, 8 + 8 * index : 28 + 8 * index] = 220
    return image


@pytest.mark.parametrize(
    ("name", "rotation", "more"),
    [
        ("a.ts", 0, {"codec": "mpeg2video", "options": {"b": "8M"}}),
        ("a.mp4", 0, {"codec": "libx264"}),
        ("a.mp4", 90, {"codec": "libx264"}),
        ("a.mov", 0, {"codec": "prores_ks", "pixel_format": "yuv422p10le"}),
    ],
    ids=["MPEG-2", "H.264", "H.264 turned", "ProRes"],
)
def test_interlaced_frames_show_one_moment(tmp_path, name, rotation, more):
    """Each frame is that of its upper field, once and at its own time, and the result says so."""
    path = make_video(
        tmp_path / name,
        num_frames=8,
        size=(96, 96),
        rotation=rotation,
        interlaced=True,
        draw=draw_bar,
        **more,
    )
    frames, report = frames_of(path)
    facts = probe(path, LIMITS)

    assert [frame.info.source_index for frame in frames] == list(range(8))
    assert seconds_of(frames) == pytest.approx([n / 30 for n in range(8)], abs=1e-3)
    for index, frame in enumerate(frames):
        away = np.abs(frame.image_bgr.astype(int) - draw_bar(index, (96, 96))).max(axis=2) > 60
        # Fields as they are would put 150 pixels of the next moment in; a line at the block's edges may stay.
        assert away.sum() <= 24
    assert [warning.code for warning in facts.warnings] == ["VIDEO_INTERLACED"]
    assert codes(report) == []


def planes_of(picture: av.VideoFrame) -> list[np.ndarray]:
    """The samples of each plane, without padding."""
    wide = picture.format.components[0].bits > 8
    sample = np.dtype((">u2" if picture.format.is_big_endian else "<u2") if wide else "u1")
    return [
        np.frombuffer(plane, sample).reshape(plane.height, -1)[:, : plane.width] for plane in picture.planes
    ]


def noise(pixel_format: str, seed: int, width: int = 32, height: int = 18) -> av.VideoFrame:
    """A picture of random samples."""
    picture = av.VideoFrame(width, height, pixel_format)
    top = 1 << picture.format.components[0].bits
    for number, rows in enumerate(planes_of(picture)):
        rows[:] = np.random.default_rng([seed, number]).integers(0, top, rows.shape)
    return picture


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv422p10be", "gray", "yuv444p12le"])
@given(seed=st.integers(0, 1000), height=st.integers(1, 20))
def test_the_lower_field_lies_between_its_neighbours(pixel_format, seed, height):
    """In every plane, whatever the depth, the upper field stays and no other line stands out."""
    picture = noise(pixel_format, seed, height=height)
    before = [rows.copy() for rows in planes_of(picture)]

    deinterlace(picture)

    for old, new in zip(before, planes_of(picture), strict=True):
        np.testing.assert_array_equal(new[0::2], old[0::2])
        for row in range(1, len(new), 2):
            neighbours = new[[row - 1, row + 1 if row + 1 < len(new) else row - 1]]
            expected = np.clip(old[row], neighbours.min(axis=0), neighbours.max(axis=0))
            np.testing.assert_array_equal(new[row], expected)


def test_a_still_slope_is_left_as_it_is():
    """Progressive pictures that are only marked as interlaced keep their full height."""
    picture = av.VideoFrame(32, 18, "yuv420p")
    for rows in planes_of(picture):
        rows[:] = np.arange(rows.shape[0])[:, None] * 7 + np.arange(rows.shape[1])
    before = [rows.copy() for rows in planes_of(picture)]

    deinterlace(picture)

    for old, new in zip(before, planes_of(picture), strict=True):
        np.testing.assert_array_equal(new[:-1], old[:-1])


ONE = 65536
# a, b, c, d: a stored point (x, y) is shown at (a x + c y, b x + d y).
MIRRORS = [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)]
ROTATIONS = {(1, 0, 0, 1): 0, (0, -1, 1, 0): 90, (-1, 0, 0, -1): 180, (0, 1, -1, 0): 270}


def packed(a: float, b: float, c: float, d: float) -> bytes:
    """A display matrix as FFmpeg stores it."""
    return struct.pack("=9i", int(a * ONE), int(b * ONE), 0, int(c * ONE), int(d * ONE), 0, 0, 0, 1 << 30)


@pytest.mark.parametrize("matrix", [*MIRRORS, *ROTATIONS])
def test_turn_upright_follows_the_display_matrix(matrix):
    """Every pixel lands where the matrix says; rotations go by the counter-clockwise angle to apply."""
    a, b, c, d = matrix
    stored = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(3, 5, 3)

    orientation = orientation_of_matrix(packed(*matrix))

    upright = turn_upright(stored, orientation)

    points = {(x, y): (a * x + c * y, b * x + d * y) for x in range(5) for y in range(3)}
    left, top = min(x for x, _ in points.values()), min(y for _, y in points.values())
    assert upright.shape == ((3, 5, 3) if a else (5, 3, 3))
    assert upright.flags.c_contiguous
    for (x, y), (shown_x, shown_y) in points.items():
        np.testing.assert_array_equal(upright[shown_y - top, shown_x - left], stored[y, x])
    if matrix in ROTATIONS:
        assert orientation.rotation_degrees == ROTATIONS[matrix]
        np.testing.assert_array_equal(upright, np.rot90(stored, ROTATIONS[matrix] // 90))


def test_orientation_takes_the_nearest_right_angle_and_ignores_nonsense():
    """Slanted matrices are rounded; one of the wrong length is none."""
    assert orientation_of_matrix(packed(0.9, 0.3, -0.3, 0.9)) == Orientation()
    assert orientation_of_matrix(packed(0.2, -0.9, 0.9, 0.2)).rotation_degrees == 90
    assert orientation_of_matrix(b"short") == Orientation()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_fit_keeps_the_whole_picture(old_width, old_height, width, height):
    """Whatever the sizes, a grey picture is scaled whole into the middle, black beside it."""
    fitted = fit(np.full((old_height, old_width, 3), 100, np.uint8), width, height)

    assert fitted.shape == (height, width, 3)
    rows, columns = (np.unique(axis) for axis in np.nonzero(fitted[:, :, 0]))
    assert len(rows) == height or len(columns) == width
    assert set(np.unique(fitted)) <= {0, 100}
    assert abs((rows[0]) - (height - 1 - rows[-1])) <= 1
    assert abs((columns[0]) - (width - 1 - columns[-1])) <= 1
