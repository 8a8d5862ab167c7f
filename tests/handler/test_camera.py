"""PHALP's canvas camera, its way into the full image, and projection."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.camera import (
    Intrinsics,
    assumed_intrinsics,
    canvas_to_pixels,
    canvas_translation,
    known_intrinsics,
    project,
    project_to_canvas,
)
from handler.people.perceive import place
from handler.records import CAM_T, POSE_CAMERA, PlacedPeople, location_vectors, phalp_joints_3d, pose_vectors
from model_cache.interfaces import People
from tests.handler.people.people_to_track import person

SIDES = st.integers(64, 4096)
CAMERAS = st.tuples(st.floats(0.3, 1.5), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))


def _image(**fields) -> People:
    """People with the given fields, the rest made up."""
    num = len(fields["crop_cam"])
    made_up = {
        "detection_index": np.arange(num),
        "bbox_xyxy": np.zeros((num, 4), np.float32),
        "scores": np.ones(num, np.float32),
        "rotations": np.zeros((num, 24, 3, 3), np.float32),
        "betas": np.zeros((num, 10), np.float32),
        "joints_3d": np.zeros((num, 44, 3), np.float32),
        "smpl_joints_3d": np.zeros((num, 24, 3), np.float32),
        "textures": (object(),) * num,
    }
    return People(**(made_up | fields))


def test_placed_people_have_the_golden_3d_parameters(golden):
    """Cameras, joints, pose and location vectors are PHALP's `get_3d_parameters`."""
    data = golden("get3d")
    for row, (height, width) in enumerate(data["sizes_hw"].tolist()):
        one = slice(row, row + 1)
        half = data["scale_pad"][one] / 2
        image = _image(
            bbox_padded_xyxy=np.concatenate(
                [data["center_pad"][one] - half, data["center_pad"][one] + half], 1
            ),
            rotations=np.concatenate([data["global_orient"][one], data["body_pose"][one]], axis=1),
            betas=data["betas"][one],
            crop_cam=data["pred_cam"][one],
            joints_3d=data["joints45"][one, :44],
        )
        people = place(image, width, height)

        np.testing.assert_allclose(people.cam_t[0, :2], data["camera"][row, :2], atol=2e-5)
        np.testing.assert_allclose(people.cam_t[0, 2], data["camera"][row, 2], atol=5e-4)
        np.testing.assert_array_equal(phalp_joints_3d(people), data["joints45"][one])
        np.testing.assert_allclose(people.joints_2d.ravel(), data["joints_2d_norm"][row], atol=2e-6)
        np.testing.assert_allclose(people.joints_2d[0] * 256, data["joints_2d_canvas"][row], atol=5e-4)
        location, pose = location_vectors(people)[0], pose_vectors(people)[0]
        np.testing.assert_allclose(location[:90], data["loca"][row, :90], atol=2e-6)
        np.testing.assert_allclose(location[90:], data["loca"][row, 90:], atol=5e-4)
        np.testing.assert_allclose(pose, data["pose_vector"][row], atol=3e-6)


@given(width=SIDES, height=SIDES, cam=CAMERAS, data=st.data())
@settings(max_examples=50, deadline=None)
def test_crop_camera_projects_the_origin_into_its_box(width, height, cam, data):
    """A body (tx, ty) off the crop's middle is projected that far off the middle of its padded box."""
    x, y = data.draw(st.floats(0, width)), data.draw(st.floats(0, height))
    side = data.draw(st.floats(30, 2 * max(width, height)))
    crop_cam = np.array([cam], np.float32)
    cam_t = canvas_translation(crop_cam, np.array([[x, y]]), np.array([side]), width, height)
    origin = project_to_canvas(np.zeros((1, 1, 3), np.float32), cam_t)
    pixel = canvas_to_pixels(origin, width, height)[0, 0]

    # The crop's own projection of the origin: 5000/256 t_xy / t_z = s t_xy / 2 of the crop's side.
    expected = np.array([x, y]) + side * crop_cam[0, 0] * crop_cam[0, 1:] / 2
    np.testing.assert_allclose(pixel, expected, atol=1e-4 * max(width, height))


@given(width=SIDES, height=SIDES, cam=CAMERAS)
@settings(max_examples=50, deadline=None)
def test_assumed_intrinsics_are_the_canvas_in_pixels(width, height, cam):
    """Projecting with the assumed camera gives the canvas projection in pixels, also for odd paddings."""
    rng = np.random.default_rng(0)
    cam_t = canvas_translation(
        np.array([cam], np.float32), np.array([[width / 3, height / 2]]), np.array([200.0]), width, height
    )
    points = rng.uniform(-1, 1, (1, 20, 3)).astype(np.float32)
    by_canvas = canvas_to_pixels(project_to_canvas(points, cam_t), width, height)
    by_camera = project(points + cam_t[:, None], assumed_intrinsics(width, height))

    np.testing.assert_allclose(by_canvas, by_camera, atol=2e-5 * max(width, height))


def test_intrinsics_look_at_the_middle_unless_told_otherwise():
    """The assumed focal length is 5000 / 256 of the longer side; `fy` defaults to `fx`."""
    assert Intrinsics(fx=25000.0, fy=25000.0, cx=640.0, cy=360.0) == assumed_intrinsics(1280, 720)
    assert Intrinsics(fx=25000.0, fy=25000.0, cx=360.0, cy=640.0) == assumed_intrinsics(720, 1280)
    assert Intrinsics(fx=900.0, fy=900.0, cx=320.0, cy=180.0) == known_intrinsics(640, 360, 900.0)
    given = Intrinsics(fx=900.0, fy=910.0, cx=0.0, cy=5.0)
    assert given == known_intrinsics(640, 360, 900.0, 910.0, 0.0, 5.0)


def test_vectors_are_made_row_by_row():
    """What a group's tables hold of a person is what that person alone gives, and where the layout says."""
    one_by_one = [person(who, 3, depth=40.0 + who) for who in range(4)]
    people = PlacedPeople.concat(one_by_one)

    for vectors in (pose_vectors, location_vectors):
        alone = np.concatenate([vectors(one) for one in one_by_one])
        np.testing.assert_array_equal(alone, vectors(people))
    np.testing.assert_array_equal(people.cam_t, location_vectors(people)[:, CAM_T])
    expected = (people.cam_t / [1, 1, 200]).astype(np.float32)
    np.testing.assert_array_equal(expected, pose_vectors(people)[:, POSE_CAMERA])


@pytest.mark.parametrize("rows", [[2, 0], [], np.array([1, 1, 3])])
def test_rows_are_taken_in_order_from_every_column(rows):
    """Arrays, textures and absent columns alike; the new record shares no memory with the old one."""
    people = PlacedPeople.concat([person(who, who) for who in range(4)])

    taken = people.take(rows)

    assert len(taken) == len(rows)
    assert taken.textures == tuple(people.textures[row] for row in rows)
    assert taken.mask_rle is None
    np.testing.assert_array_equal(taken.betas, people.betas[np.array(rows, int)])
    assert not np.shares_memory(taken.rotations, people.rotations)
