"""Pictures with their times to a file."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from handler.context import unstoppable
from handler.results.video_writer import video_writer


def make_film(path: Path, images, times=(0,), *, ticks_per_second: int = 30) -> None:
    """A film of so many pictures, at their times in ticks."""
    room = {"most_pictures": len(times), "check": unstoppable}
    with video_writer(path, time_base=Fraction(1, ticks_per_second), average_fps=30.0, **room) as pictures:
        for image, time in zip(images, times, strict=True):
            pictures.add(image, time)


def boxes(path: Path) -> list[str]:
    """The names of an MP4's top-level boxes."""
    data, names, place = path.read_bytes(), [], 0
    while place < len(data):
        names.append(data[place + 4 : place + 8].decode())
        place += int.from_bytes(data[place : place + 4], "big")
    return names


def test_a_time_that_does_not_grow_is_moved_on_by_a_tick(tmp_path):
    """Repeated and restarted times end no film; every picture is in it, in order."""
    make_film(
        tmp_path / "film.mp4", np.zeros((5, 64, 64, 3), np.uint8), [0, 40, 40, 0, 120], ticks_per_second=1000
    )

    with av.open(str(tmp_path / "film.mp4")) as container:
        times = [round(float(picture.time) * 1000) for picture in container.decode(video=0)]
    assert times == [0, 40, 41, 42, 120]


def shown(path: Path) -> np.ndarray:
    """BGR of a film's first picture by BT.709's arithmetic from the stored planes, as a player has it."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
    assert picture.format.name == "yuv420p"
    height, width = picture.height, picture.width
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width].astype(np.float32)
        for plane in picture.planes
    ]
    luma = (planes[0] - 16) / 219
    blue, red = (cv2.resize((plane - 128) / 224, (width, height)) for plane in planes[1:])
    b, r = luma + 1.8556 * blue, luma + 1.5748 * red
    return np.stack([b, (luma - 0.2126 * r - 0.0722 * b) / 0.7152, r], axis=-1) * 255


GREYS = np.repeat(np.arange(0, 256, 8, dtype=np.uint8).reshape(4, 8, 1), 3, axis=2)
BARS = (
    np.array(np.meshgrid([20, 128, 235], [20, 128, 235], [20, 128, 235])).T.reshape(3, 9, 3).astype(np.uint8)
)


@pytest.mark.parametrize("colours", [GREYS, BARS], ids=["greys", "bars"])
@pytest.mark.parametrize("odd", [0, 1], ids=["even", "odd"])
def test_colours_are_neither_darker_nor_brighter(tmp_path, colours, odd):
    """What a player makes of the film is what was put in: to within a level, and not to one side."""
    squares = np.kron(colours, np.ones((32, 32, 1), np.uint8))
    image = squares[: -odd or None, : -odd or None]
    make_film(tmp_path / "film.mp4", [image])

    rows, columns = colours.shape[:2]
    middle = shown(tmp_path / "film.mp4")[: rows * 32, : columns * 32].reshape(rows, 32, columns, 32, 3)
    difference = middle[:, 12:20, :, 12:20].mean(axis=(1, 3)) - colours
    assert np.abs(difference).max() < 1.6  # one of them from rounding the chroma to whole numbers
    assert abs(difference.mean()) < 0.15


def test_the_film_names_its_colours(tmp_path):
    """Players need not guess matrix, range, primaries and transfer."""
    make_film(tmp_path / "film.mp4", np.zeros((1, 64, 64, 3), np.uint8))

    with av.open(str(tmp_path / "film.mp4")) as container:
        picture = next(container.decode(video=0))
    tags = (picture.colorspace, picture.color_range, picture.color_primaries, picture.color_trc)
    assert tags == (1, 1, 1, 1)


@pytest.mark.parametrize("num_pictures", [0, 1, 2, 600])
def test_index_lies_in_front_however_many_pictures_there_are(tmp_path, num_pictures):
    """A browser can start at once: the room left for the index suffices, at the most uneven times too."""
    noise = np.random.default_rng(0).integers(0, 255, (600, 16, 16, 3), np.uint8)
    times = np.random.default_rng(1).integers(1, 90, 600).cumsum().tolist()
    make_film(tmp_path / "film.mp4", noise[:num_pictures], times[:num_pictures], ticks_per_second=1000)

    if num_pictures:
        assert boxes(tmp_path / "film.mp4") == ["ftyp", "moov", "free", "free", "mdat"]
        with av.open(str(tmp_path / "film.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == num_pictures
