"""Camera cuts while streaming, against PySceneDetect over the whole video."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy import ndarray
from scenedetect import AdaptiveDetector, detect

from handler.people.shots import WINDOW, detect_shots
from handler.records import Frame
from tests.handler.results.factories import make_info


def _frames(images: list[ndarray]) -> Iterator[Frame]:
    for index, image in enumerate(images):
        info = make_info(index, width=image.shape[1], height=image.shape[0])
        yield Frame(info=info, image_bgr=image)


def _clip(seed: int, shots: list[int], size: tuple[int, int], motion: int = 3) -> list[ndarray]:
    """Shots of the given lengths: each a random soft picture that drifts, with a little noise."""
    rng = np.random.default_rng(seed)
    height, width = size
    images = []
    for length in shots:
        coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2 + length * motion // 16, 3))
        scene = np.kron(coarse, np.ones((16, 16, 1)))
        for index in range(length):
            left = index * motion
            noisy = scene[:height, left : left + width] + rng.normal(0, 2, (height, width, 3))
            images.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return images


def _write_lossless(images: list[ndarray], path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, pix_fmt="bgr0")
        stream.height, stream.width = images[0].shape[:2]
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="bgr0")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _cuts(images: list[ndarray]) -> list[int]:
    return [frame.info.frame_index for frame in detect_shots(_frames(images)) if frame.info.shot]


@pytest.mark.parametrize(
    ("shots", "size", "motion"),
    [
        ([40, 30, 50], (96, 128), 3),
        ([20, 8, 7, 30, 14, 16], (96, 128), 3),  # shots shorter than the shortest allowed
        ([3, 40, 2], (96, 128), 0),  # cuts next to the ends, nothing moves
        ([12, 15, 12], (360, 640), 9),  # shrunk before the comparison
        ([60], (96, 128), 14),  # fast motion, no cut
    ],
    ids=["plain", "short-shots", "ends", "large", "no-cut"],
)
def test_detect_shots_finds_the_cuts_of_pyscenedetect(tmp_path, shots, size, motion):
    """The streamed cuts are those PySceneDetect's adaptive detector finds over the whole file."""
    images = _clip(7, shots, size, motion)
    path = tmp_path / "clip.avi"
    _write_lossless(images, path)
    scenes = detect(str(path), AdaptiveDetector())
    expected = [start.frame_num for start, _ in scenes[1:]]

    assert expected == _cuts(images)
    if shots == [40, 30, 50]:
        assert expected == [40, 70]


def test_detect_shots_looks_two_frames_ahead_and_loses_none():
    """A frame is handed on as soon as two more are known, each exactly once and in order."""
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in _frames(_clip(1, [30, 30], (48, 64))):
            taken += 1
            yield frame

    seen = []
    for frame in detect_shots(counted()):
        seen.append(frame.info.frame_index)

        assert taken <= frame.info.frame_index + 1 + WINDOW
    assert list(range(60)) == seen


@pytest.mark.parametrize("num", [0, 1, 2, 4, 5])
def test_detect_shots_passes_short_videos_on(num):
    """A video too short for a decision has no cuts and all its frames."""
    infos = [frame.info for frame in detect_shots(_frames(_clip(2, [5], (48, 64))[:num]))]

    assert [(index, False) for index in range(num)] == [(info.frame_index, info.shot) for info in infos]


def test_detect_shots_survives_a_change_of_size():
    """Frames of another size are compared at the new size: the same picture there is no cut."""
    images = _clip(3, [40], (96, 128), motion=0)
    images[20:] = [np.kron(image, np.ones((2, 2, 1), np.uint8)) for image in images[20:]]

    assert _cuts(images) == []
