"""The overlay shows who is where, frame by frame, at the video's own times."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from handler.camera import Intrinsics, assumed_intrinsics, project
from handler.context import unstoppable
from handler.job import Options
from handler.records import Frame
from handler.results import painter
from handler.results.drawing import colour_of, draw_box, draw_skeleton
from handler.results.overlay import overlay
from handler.results.painter import paint_bodies
from handler.results.video_writer import video_writer
from handler.results.write import write
from tests.fakes import FakeBody
from tests.handler.results.factories import (
    SIZE,
    UPRIGHT,
    make_facts,
    make_frame,
    make_info,
    make_person,
    predicted,
    tracked,
    walk,
)
from tests.handler.results.free_body import FreeBody

GREY = 90
RED = (0, 0, 255)
CAMERA = assumed_intrinsics(*SIZE)


@pytest.fixture(scope="module")
def free_body():
    """The bundled body."""
    return FreeBody()


def grey(width: int = SIZE[0], height: int = SIZE[1]) -> np.ndarray:
    """A picture without people."""
    return np.full((height, width, 3), GREY, np.uint8)


def change(image: np.ndarray) -> np.ndarray:
    """How far each pixel is from grey."""
    return np.abs(image.astype(int) - GREY).max(axis=2)


def pictures(tracked_frames) -> list[Frame]:
    """Grey frames for the tracked ones, of their sizes."""
    infos = [frame.info for frame in tracked_frames]
    return [Frame(info=info, image_bgr=grey(info.width, info.height)) for info in infos]


def film_of(tmp_path, tracked_frames, *, body=None, facts=None, shown=None, **options):
    """Write the frames, draw them, and read the film back: (stream facts, [(pts seconds, picture)])."""
    chosen, body, tracked_frames = Options(**options), body or FakeBody(), list(tracked_frames)
    written = write(tracked_frames, options=chosen, body=body, into=tmp_path)
    path = overlay(
        pictures(tracked_frames) if shown is None else shown,
        written.frames_path,
        options=chosen,
        facts=facts or make_facts(),
        body=body,
        into=tmp_path,
        num_frames=len(tracked_frames),
    )
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [(frame.time, frame.to_ndarray(format="bgr24")) for frame in container.decode(stream)]
        return stream.codec_context, found


@pytest.mark.parametrize("style", ["mesh", "skeleton"])
def test_film_keeps_the_times_of_a_variable_rate_video(tmp_path, style):
    """As many pictures as frames, each at its own time after the first; H.264 that every browser plays."""
    ticks = [900, 3900, 6906, 12906, 13907, 30000]
    frames = [
        dataclasses.replace(frame, info=make_info(i, pts=tick, pts_seconds=(tick - 900) / 90000))
        for i, (frame, tick) in enumerate(zip(walk(6, lose_every=3), ticks, strict=True))
    ]
    facts = make_facts(time_base=Fraction(1, 90000), average_fps=29.97)

    codec, found = film_of(tmp_path, frames, facts=facts, overlay_style=style)

    assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    assert [time for time, _ in found] == pytest.approx([(tick - 900) / 90000 for tick in ticks], abs=1e-6)


def test_frame_of_another_size_fits_the_film(tmp_path):
    """A size change in mid-stream does not end the film; an odd size is made even without a cut."""
    frames = [make_frame(0, width=321, height=241), make_frame(1, width=640, height=480)]

    _, found = film_of(tmp_path, frames)

    assert [picture.shape for _, picture in found] == [(242, 322, 3)] * 2
    assert all(change(picture).max() <= 3 for _, picture in found)


def test_people_are_drawn_where_they_are_in_their_colour(tmp_path, free_body):
    """The body's middle has the identity's hue, fainter and greyer if it is lost; the corner is untouched."""
    person = make_person(1, center=(300, 240), height=300)
    frames = [make_frame(0, tracked(7, person)), make_frame(1, predicted(7, person))]

    _, [(_, seen), (_, gone)] = film_of(tmp_path, frames, body=free_body)

    middle = seen[225:250, 290:310].reshape(-1, 3).mean(axis=0)
    assert np.argsort(middle).tolist() == np.argsort(colour_of(7)).tolist()
    assert max(change(seen)[-40:, -40:].max(), change(gone)[-40:, -40:].max()) <= 3
    assert 3 < change(gone)[200:280, 285:315].mean() < 0.6 * change(seen)[200:280, 285:315].mean()
    assert np.ptp(gone[225:250, 290:310].reshape(-1, 3).mean(axis=0)) < 0.35 * np.ptp(middle)


@pytest.mark.parametrize("profile", ["params", "full"])
@pytest.mark.parametrize("style", ["mesh", "skeleton"])
def test_every_profile_gives_the_same_film(tmp_path, free_body, profile, style):
    """Axis-angle or matrices, joints in the file or not: the picture is the same up to rounding."""
    person = make_person(2)
    joints = free_body.joints(person.global_orient, person.body_pose, person.betas)[1]
    frame = make_frame(0, tracked(1, dataclasses.replace(person, smpl_joints_3d=joints)))

    _, [(_, usual)] = film_of(tmp_path, [frame], body=free_body, overlay_style=style)
    _, [(_, other)] = film_of(tmp_path, [frame], body=free_body, overlay_style=style, profile=profile)

    assert (np.abs(usual.astype(int) - other.astype(int)) > 40).mean() < 2e-3
    assert (np.abs(usual.astype(int) - GREY) > 40).mean() > 0.004


@pytest.mark.parametrize(
    "second_pass",
    [
        lambda frames: [frames[0], dataclasses.replace(frames[1], info=make_info(1, pts=513)), frames[2]],
        lambda frames: frames[:2],
    ],
    ids=["another time", "one fewer"],
)
def test_frames_that_do_not_match_are_refused(tmp_path, second_pass):
    """A second pass that decodes other frames is a bug, not a film."""
    frames = list(walk(3))

    with pytest.raises((RuntimeError, ValueError)):
        film_of(tmp_path, frames, shown=second_pass(pictures(frames)))


def test_people_far_outside_the_picture_are_drawn():
    """However far: nothing fails, and the picture stays as it is."""
    image = grey()

    draw_box(image, np.full(4, 1e12), RED, dashed=False)
    draw_skeleton(image, np.full((24, 2), -1e12), RED, faint=False)

    assert (image == GREY).all()


def test_colours_of_neighbours_differ():
    """Consecutive ids never look alike."""
    for track_id in range(1, 200):
        difference = np.abs(np.array(colour_of(track_id)) - np.array(colour_of(track_id + 1)))
        assert difference.max() > 60


# The painter


def rest_pose(body: FreeBody, *at: float) -> np.ndarray:
    """The body at rest, upright, facing the camera."""
    pose = np.broadcast_to(np.eye(3, dtype=np.float32), (1, 23, 3, 3))
    shape = np.zeros((1, 10), np.float32)
    return body.vertices(UPRIGHT[None, None], pose, shape) + np.array(at, np.float32)


def painted(faces, *bodies, colours=(RED,), camera=CAMERA, image=None, opacity=1.0) -> np.ndarray:
    """The bodies on grey, or on a picture."""
    image = grey() if image is None else image.copy()
    opacities = np.full(len(bodies), opacity, np.float32)
    paint_bodies(image, np.concatenate(bodies), faces, camera, np.array(colours, np.uint8), opacities)
    return image


def test_painted_outline_is_that_of_the_projected_body(free_body):
    """What is painted reaches as far as the vertices project, to a pixel."""
    vertices = rest_pose(free_body, 0.1, 0.0, 60.0)

    rows, columns = np.nonzero(change(painted(free_body.faces, vertices)) > 60)

    pixels = project(vertices[0], CAMERA)
    outline = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert outline == pytest.approx([*pixels.min(axis=0), *pixels.max(axis=0)], abs=2)


def test_nearer_body_hides_the_farther_one(free_body):
    """Where two bodies overlap, the nearer one's colour shows, whatever their order."""
    near, far = (rest_pose(free_body, 0, 0, 60), RED), (rest_pose(free_body, 0, 0, 70), (255, 0, 0))

    for order in ((near, far), (far, near)):
        bodies, colours = zip(*order, strict=True)
        blue, _, red = painted(free_body.faces, *bodies, colours=colours)[195, 320].tolist()
        assert red > 100 > blue


def test_body_behind_the_camera_is_not_painted(free_body):
    """Nothing behind the camera, and nothing around it, appears in the picture."""
    for depth in (-5.0, 0.0):
        body = rest_pose(free_body, 0, 0, depth)
        body[..., 2] = np.minimum(body[..., 2], 0.05)
        image = painted(free_body.faces, body, camera=Intrinsics(fx=500, fy=500, cx=320, cy=240))
        assert (image == GREY).all()


@pytest.mark.parametrize(
    ("x", "first", "last"), [(-1.7, 0, 240), (1.7, 400, 640), (40.0, 0, 0)], ids=["left", "right", "outside"]
)
def test_body_half_outside_the_picture_is_painted(free_body, x, first, last):
    """A body at the border or far outside neither fails nor wraps around."""
    image = painted(free_body.faces, rest_pose(free_body, x, 0, 60))

    columns = np.nonzero((image != GREY).any(axis=(0, 2)))[0]
    assert bool(columns.size) == (first < last)
    assert ((first <= columns) & (columns < last)).all()


def test_picture_has_no_seams(free_body, monkeypatch):
    """Blending in stripes gives the very picture that blending at once gives."""
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
    body = rest_pose(free_body, 0.2, 0.1, 55.0)

    in_stripes = painted(free_body.faces, body, image=noise, opacity=0.7)
    monkeypatch.setattr(painter, "STRIPE_ROWS", 10_000)

    assert np.array_equal(in_stripes, painted(free_body.faces, body, image=noise, opacity=0.7))


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
    """BGR of a film's first picture by BT.709's arithmetic from the stored planes, as its tags ask for."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
    tags = (picture.colorspace, picture.color_range, picture.color_primaries, picture.color_trc)
    assert (picture.format.name, tags) == ("yuv420p", (1, 1, 1, 1))
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
