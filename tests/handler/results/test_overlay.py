"""The overlay shows who is where, frame by frame, at the video's own times."""

import dataclasses
from fractions import Fraction

import av
import numpy as np
import pytest

from handler.camera import Intrinsics, assumed_intrinsics, project
from handler.errors import WorkerError
from handler.job import Options
from handler.records import Frame
from handler.results import painter
from handler.results.drawing import colour_of
from handler.results.overlay import overlay
from handler.results.painter import paint_bodies
from handler.results.write import write
from tests.fakes import FakeBody
from tests.handler.results.factories import (
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
RED = np.array([[0, 0, 255]], np.uint8)
OPAQUE = np.ones(1, np.float32)


@pytest.fixture(scope="module")
def free_body():
    """The bundled body."""
    return FreeBody()


def pictures(tracked_frames, size=(640, 480)) -> list[Frame]:
    """Grey frames for the tracked ones."""
    image = np.full((size[1], size[0], 3), GREY, np.uint8)
    return [Frame(info=frame.info, image_bgr=image) for frame in tracked_frames]


def film_of(tmp_path, tracked_frames, *, body, facts=None, size=(640, 480), **options):
    """Write the frames, draw them, and read the film back: (stream facts, [(pts seconds, picture)])."""
    chosen = Options(**options)
    tracked_frames = list(tracked_frames)
    written = write(tracked_frames, options=chosen, body=body, into=tmp_path)
    path = overlay(
        pictures(tracked_frames, size),
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


def rest_pose(body: FreeBody, at: tuple[float, float, float]) -> np.ndarray:
    """The body at rest, upright, facing the camera."""
    pose = np.broadcast_to(np.eye(3, dtype=np.float32), (1, 23, 3, 3))
    shape = np.zeros((1, 10), np.float32)
    return body.vertices(UPRIGHT[None, None], pose, shape) + np.array(at, np.float32)


@pytest.mark.parametrize("style", ["mesh", "skeleton"])
def test_film_keeps_the_times_of_a_variable_rate_video(tmp_path, style):
    """As many pictures as frames, each at its own time after the first; H.264 that every browser plays."""
    ticks = [900, 3900, 6906, 12906, 13907, 30000]
    frames = [
        dataclasses.replace(frame, info=make_info(i, pts=tick, pts_seconds=(tick - 900) / 90000))
        for i, (frame, tick) in enumerate(zip(walk(6, lose_every=3), ticks, strict=True))
    ]

    codec, found = film_of(
        tmp_path,
        frames,
        body=FakeBody(),
        facts=make_facts(time_base=Fraction(1, 90000), average_fps=29.97),
        overlay_style=style,
    )

    assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    assert [time for time, _ in found] == pytest.approx([(tick - 900) / 90000 for tick in ticks], abs=1e-6)


def test_odd_size_is_made_even_without_a_cut(tmp_path):
    """One more column and row, no scaling."""
    frames = [make_frame(i, width=321, height=241) for i in range(3)]

    codec, found = film_of(tmp_path, frames, body=FakeBody(), size=(321, 241))

    assert (codec.width, codec.height) == (322, 242)
    assert np.abs(found[0][1].astype(int) - GREY).max() <= 3


def test_frame_of_another_size_fits_the_film(tmp_path):
    """A size change in mid-stream does not end the film."""
    frames = [make_frame(0), make_frame(1, width=320, height=240)]
    written = write(frames, options=Options(), body=FakeBody(), into=tmp_path)
    shown = [pictures(frames[:1])[0], pictures(frames[1:], size=(320, 240))[0]]

    path = overlay(
        shown,
        written.frames_path,
        options=Options(),
        facts=make_facts(),
        body=FakeBody(),
        into=tmp_path,
        num_frames=2,
    )

    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2


def test_people_are_drawn_where_they_are_in_their_colour(tmp_path, free_body):
    """The body's middle has the identity's hue, the picture's far corner is untouched."""
    person = make_person(1, center=(300, 240), height=300)

    _, found = film_of(tmp_path, [make_frame(0, tracked(7, person))], body=free_body)

    picture = found[0][1]
    middle = picture[225:250, 290:310].reshape(-1, 3).mean(axis=0)
    assert np.argsort(middle).tolist() == np.argsort(colour_of(7)).tolist()
    assert np.abs(picture[-40:, -40:].astype(int) - GREY).max() <= 3


def test_lost_people_are_fainter(tmp_path, free_body):
    """A lost person's mesh lets more of the picture through than a measured one's."""
    person = make_person(1, center=(300, 240), height=300)

    def change(frame) -> float:
        _, found = film_of(tmp_path, [frame], body=free_body)
        return float(np.abs(found[0][1][200:280, 285:315].astype(int) - GREY).mean())

    seen = change(make_frame(0, tracked(7, person)))
    gone = change(make_frame(0, predicted(7, person)))

    assert 3 < gone < 0.6 * seen


@pytest.mark.parametrize("profile", ["params", "full"])
@pytest.mark.parametrize("style", ["mesh", "skeleton"])
def test_every_profile_gives_the_same_film(tmp_path, free_body, profile, style):
    """Axis-angle or matrices, joints in the file or not: the picture is the same up to rounding."""
    person = make_person(2)
    joints = free_body.joints(person.global_orient, person.body_pose, person.betas)[1]
    frame = make_frame(0, tracked(1, dataclasses.replace(person, smpl_joints_3d=joints)))

    _, usual = film_of(tmp_path, [frame], body=free_body, overlay_style=style)
    _, other = film_of(tmp_path, [frame], body=free_body, overlay_style=style, profile=profile)

    difference = np.abs(usual[0][1].astype(int) - other[0][1].astype(int))
    assert (difference > 40).mean() < 2e-3
    assert (np.abs(usual[0][1].astype(int) - GREY) > 40).mean() > 0.004


def test_frames_that_do_not_match_are_refused(tmp_path):
    """A second pass that decodes other frames is a bug, not a film."""
    frames = list(walk(3))
    written = write(frames, options=Options(), body=FakeBody(), into=tmp_path)
    shifted = pictures(frames)
    shifted[1] = dataclasses.replace(shifted[1], info=make_info(1, pts=513))

    for wrong in (shifted, pictures(frames)[:2]):
        with pytest.raises((RuntimeError, ValueError)):
            overlay(
                wrong,
                written.frames_path,
                options=Options(),
                facts=make_facts(),
                body=FakeBody(),
                into=tmp_path,
                num_frames=3,
            )


def test_full_disk_is_coded(tmp_path):
    """A disk that fills up while the film is written is DISK_FULL."""
    frames = list(walk(3))
    written = write(frames, options=Options(), body=FakeBody(), into=tmp_path)
    (tmp_path / "overlay.mp4").symlink_to("/dev/full")

    with pytest.raises(WorkerError) as failed:
        overlay(
            pictures(frames),
            written.frames_path,
            options=Options(),
            facts=make_facts(),
            body=FakeBody(),
            into=tmp_path,
            num_frames=3,
        )
    assert (failed.value.code, failed.value.stage) == ("DISK_FULL", "overlay")


# The painter


def test_painted_outline_is_that_of_the_projected_body(free_body):
    """What is painted reaches as far as the vertices project, to a pixel."""
    camera = assumed_intrinsics(640, 480)
    vertices = rest_pose(free_body, (0.1, 0.0, 60.0))
    image = np.full((480, 640, 3), GREY, np.uint8)

    paint_bodies(image, vertices, free_body.faces, camera, RED, OPAQUE)

    rows, columns = np.nonzero(np.abs(image.astype(int) - GREY).max(axis=2) > 60)
    pixels = project(vertices[0], camera)
    painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = [*pixels.min(axis=0), *pixels.max(axis=0)]
    assert np.abs(np.array(painted) - np.array(expected)).max() < 2


def test_nearer_body_hides_the_farther_one(free_body):
    """Where two bodies overlap, the nearer one's colour shows, whatever their order."""
    camera = assumed_intrinsics(640, 480)
    near, far = rest_pose(free_body, (0, 0, 60)), rest_pose(free_body, (0, 0, 70))
    colours = np.array([[0, 0, 255], [255, 0, 0]], np.uint8)

    for order in ((0, 1), (1, 0)):
        image = np.full((480, 640, 3), GREY, np.uint8)
        bodies = np.concatenate([(near, far)[i] for i in order])
        paint_bodies(image, bodies, free_body.faces, camera, colours[list(order)], np.ones(2, np.float32))
        blue, _, red = image[195, 320].tolist()
        assert red > 100 > blue


def test_body_behind_the_camera_is_not_painted(free_body):
    """Nothing behind the camera, and nothing around it, appears in the picture."""
    camera = Intrinsics(fx=500, fy=500, cx=320, cy=240)
    for depth in (-5.0, 0.0):
        image = np.full((480, 640, 3), GREY, np.uint8)
        body = rest_pose(free_body, (0, 0, depth))
        body[..., 2] = np.minimum(body[..., 2], 0.05)
        paint_bodies(image, body, free_body.faces, camera, RED, OPAQUE)
        assert (image == GREY).all()


def test_body_half_outside_the_picture_is_painted(free_body):
    """A body at the border or far outside neither fails nor wraps around."""
    camera = assumed_intrinsics(640, 480)
    for x in (-1.7, 1.7, 40.0):
        image = np.full((480, 640, 3), GREY, np.uint8)
        paint_bodies(image, rest_pose(free_body, (x, 0, 60)), free_body.faces, camera, RED, OPAQUE)
        changed = np.nonzero((image != GREY).any(axis=(0, 2)))[0]
        if abs(x) < 2:
            assert changed.size
            assert (changed.min() > 400) if x > 0 else (changed.max() < 240)
        else:
            assert not changed.size


def test_colours_of_neighbours_differ():
    """Consecutive ids never look alike, and an id always looks the same."""
    for track_id in range(1, 200):
        difference = np.abs(np.array(colour_of(track_id)) - np.array(colour_of(track_id + 1)))
        assert difference.max() > 60
    assert colour_of(5) == colour_of(5)


def test_picture_has_no_seams(free_body, monkeypatch):
    """Blending in stripes gives the very picture that blending at once gives."""
    camera = assumed_intrinsics(640, 480)
    bodies = rest_pose(free_body, (0.2, 0.1, 55.0))

    def painted() -> np.ndarray:
        image = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
        paint_bodies(image, bodies, free_body.faces, camera, RED, OPAQUE * 0.7)
        return image

    in_stripes = painted()
    monkeypatch.setattr(painter, "STRIPE_ROWS", 10_000)

    assert np.array_equal(in_stripes, painted())
