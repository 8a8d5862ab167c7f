"""Pictures with their times to a file."""

from fractions import Fraction

import av
import numpy as np

from handler.results.film import film


def test_a_time_that_does_not_grow_is_moved_on_by_a_tick(tmp_path):
    """Repeated and restarted times end no film; every picture is in it, in order."""
    with film(tmp_path / "film.mp4", time_base=Fraction(1, 1000), average_fps=25.0) as pictures:
        for pts in (0, 40, 40, 0, 120):
            pictures.add(np.zeros((64, 64, 3), np.uint8), pts)

    with av.open(str(tmp_path / "film.mp4")) as container:
        times = [round(float(picture.time) * 1000) for picture in container.decode(video=0)]
    assert times == [0, 40, 41, 42, 120]
