"""Pictures with their times to a file."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from handler.control import unstoppable
from handler.results.film import film


def film_at(path: Path, *, most_pictures: int):
    """A film in milliseconds."""
    return film(
        path,
        time_base=Fraction(1, 1000),
        average_fps=25.0,
        most_pictures=most_pictures,
        check=unstoppable,
    )


def boxes(path: Path) -> list[str]:
    """The names of an MP4's top-level boxes."""
    data, names, place = path.read_bytes(), [], 0
    while place < len(data):
        names.append(data[place + 4 : place + 8].decode())
        place += int.from_bytes(data[place : place + 4], "big")
    return names


def test_a_time_that_does_not_grow_is_moved_on_by_a_tick(tmp_path):
    """Repeated and restarted times end no film; every picture is in it, in order."""
    with film_at(tmp_path / "film.mp4", most_pictures=5) as pictures:
        for pts in (0, 40, 40, 0, 120):
            pictures.add(np.zeros((64, 64, 3), np.uint8), pts)

    with av.open(str(tmp_path / "film.mp4")) as container:
        times = [round(float(picture.time) * 1000) for picture in container.decode(video=0)]
    assert times == [0, 40, 41, 42, 120]


@pytest.mark.parametrize("num_pictures", [0, 1, 2, 600])
def test_index_lies_in_front_however_many_pictures_there_are(tmp_path, num_pictures):
    """A browser can start at once: the room left for the index suffices, at the most uneven times too."""
    noise = np.random.default_rng(0).integers(0, 255, (600, 16, 16, 3), np.uint8)
    times = np.random.default_rng(1).integers(1, 90, 600).cumsum().tolist()
    with film_at(tmp_path / "film.mp4", most_pictures=num_pictures) as pictures:
        for index in range(num_pictures):
            pictures.add(noise[index], times[index])

    if num_pictures:
        assert boxes(tmp_path / "film.mp4") == ["ftyp", "moov", "free", "free", "mdat"]
        with av.open(str(tmp_path / "film.mp4")) as container:
            assert sum(1 for _ in container.decode(video=0)) == num_pictures
