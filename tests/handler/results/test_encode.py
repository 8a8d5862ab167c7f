"""A line says what the record held, in the units and shapes that the schema promises."""

import dataclasses
import json
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from handler.camera import Intrinsics, assumed_intrinsics, canvas_to_pixels, known_intrinsics, project
from handler.errors import ComputeError
from handler.records import phalp_joints_3d
from handler.results.encode import axis_angle, frame_line
from tests.fakes import FakeBody
from tests.handler.results.factories import SIZE, make_frame, make_person, predicted, tracked

PROFILES = ("params", "standard", "full")
ASSUMED = assumed_intrinsics(*SIZE)
FOCAL_LENGTHS, CENTRES = [st.floats(1000, 5000)] * 2, [st.floats(0, 640), st.floats(0, 480)]


def line_of(frame, *, profile="standard", camera: Intrinsics = ASSUMED, **more) -> dict:
    """The parsed line of a frame."""
    return json.loads(frame_line(frame, FakeBody(), camera, profile=profile, **more))


def test_full_profile_keeps_every_bit():
    """Nothing is rounded in `full`: the float32 come back exactly."""
    person = make_person(3)

    record = line_of(make_frame(0, tracked(1, person)), profile="full")["people"][0]

    assert np.array_equal(np.float32(record["smpl"]["body_pose"]), person.body_pose.ravel())
    assert np.array_equal(np.float32(record["phalp"]["camera"]), person.cam_t[0])
    assert np.array_equal(np.float32(record["phalp"]["3d_joints"]), phalp_joints_3d(person).ravel())
    assert record["phalp"]["scale"] == 200 / 640


@given(
    seed=st.integers(0, 1000),
    x=st.floats(50, 600),
    y=st.floats(50, 430),
    height=st.floats(60, 900),
    camera=st.just(ASSUMED) | st.builds(partial(known_intrinsics, *SIZE), *FOCAL_LENGTHS, *CENTRES),
)
@settings(max_examples=80, deadline=None)
def test_numbers_describe_the_same_body(seed, x, y, height, camera):
    """Before any camera, a line's rotations, joints, pixels and size are the body's, but for rounding."""
    person = make_person(seed, center=(x, y), height=height)

    record = line_of(make_frame(0, tracked(1, person)), camera=camera)["people"][0]

    angles = np.array(record["smpl"]["body_pose"], np.float64).reshape(23, 3)
    assert np.abs(Rotation.from_rotvec(angles).as_matrix() - person.body_pose).max() < 2e-4
    joints, transl = np.array(record["joints_3d"]).reshape(24, 3), np.array(record["smpl"]["transl"])
    assert np.abs(joints - transl - person.smpl_joints_3d).max() < 2e-4
    slack = 0.06 + 2e-4 * max(camera.fx, camera.fy) / joints[:, 2].min()
    pixels = np.array(record["joints_2d"]).reshape(24, 2)
    assert np.abs(project(joints, camera) - pixels).max() < slack
    origin = canvas_to_pixels(person.joints_2d[0, 44], *SIZE)
    assert np.abs(project(transl, camera) - origin).max() < slack
    size, before = math.sqrt(camera.fx * camera.fy) / transl[2], ASSUMED.fx / person.cam_t[0, 2]
    assert math.isclose(size, before, rel_tol=1e-4)


@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3),
    angle=st.sampled_from([0, 1e-7, 1e-4, 1, 3, math.pi - 1e-5, math.pi]),
)
@settings(max_examples=80, deadline=None)
def test_axis_angle_is_stable_at_both_ends(axis, angle):
    """From no turn to half a turn, the vector gives the matrix back."""
    norm = math.sqrt(sum(x * x for x in axis))
    vector = np.array(axis) / norm * angle if norm > 1e-3 else np.array([0, 0, angle])
    matrix = Rotation.from_rotvec(vector).as_matrix().astype(np.float32)

    found = axis_angle(matrix[None])

    assert np.linalg.norm(found) <= math.pi + 1e-5
    assert np.abs(Rotation.from_rotvec(found[0]).as_matrix() - matrix).max() < 2e-6


@pytest.mark.parametrize(
    "matrix",
    [np.zeros((3, 3)), np.diag([1, 1, -1]), np.eye(3) * 1.01, np.full((3, 3), np.nan), np.eye(3)[[1, 0, 2]]],
    ids=["zeros", "mirror", "scaled", "nan", "swapped"],
)
def test_what_is_no_rotation_is_refused(matrix):
    """Mirrors, scalings and NaN have no axis and angle."""
    with pytest.raises(ComputeError) as refused:
        axis_angle(matrix.astype(np.float32)[None])
    assert refused.value.code == "MODEL_OUTPUT_INVALID"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("field", "at", "profiles"),
    [
        ("betas", 1, PROFILES),
        ("cam_t", 1, PROFILES),
        ("bbox_xyxy", 1, PROFILES),
        ("rotations", 1, PROFILES),
        ("rotations", 10, PROFILES),
        ("scores", 0, PROFILES),
        ("smpl_joints_3d", 0, ("standard", "full")),
        ("joints_3d", 0, ("full",)),
        ("crop_cam", 0, ("full",)),
    ],
)
def test_number_that_is_not_finite_is_refused(field, at, value, profiles):
    """A NaN or infinity from a model is a coded error in every profile that holds it, never a line."""
    person = make_person()
    broken = getattr(person, field).copy()
    broken.flat[at] = value
    frame = make_frame(7, tracked(1, dataclasses.replace(person, **{field: broken})))

    for profile in profiles:
        with pytest.raises(ComputeError) as refused:
            line_of(frame, profile=profile)
        assert refused.value.code == "MODEL_OUTPUT_INVALID"


def test_lost_person_stands_where_the_tracker_expects_them():
    """Pose from the pose prediction, place from the location prediction, no score, the box carried along."""
    last = make_person(1, center=(200, 200), height=200)
    expected = make_person(2, center=(260, 210), height=250)

    frame = make_frame(0, predicted(4, last, lost=3, expected=expected), tracked(5, expected))
    lost, seen = line_of(frame)["people"]

    assert (lost["track_id"], lost["state"], lost["score"]) == (4, "predicted", None)
    assert np.allclose(lost["smpl"]["body_pose"], seen["smpl"]["body_pose"], atol=1e-3)
    assert np.allclose(lost["smpl"]["transl"], seen["smpl"]["transl"], atol=1e-3)
    stick = np.array(lost["joints_3d"]).reshape(24, 3) - lost["smpl"]["transl"]
    assert np.allclose(stick[:, 1], np.linspace(-1, 1, 24), atol=2e-4)  # the body model's joints
    assert np.allclose(lost["bbox_xyxy"], seen["bbox_xyxy"], atol=1.0)


def test_lost_person_in_full_holds_phalps_stale_record():
    """`phalp` of a lost person is the last measurement with its age, as PHALP records it; no mask."""
    last = make_person(1, mask_rle=("abc",))
    frame = make_frame(0, predicted(4, last, lost=3, expected=make_person(2)), tracked(5, last))

    lost, seen = line_of(frame, profile="full", masks=True)["people"]

    assert lost["phalp"]["tracked_time"] == 3
    assert lost["phalp"]["camera"] == seen["phalp"]["camera"]
    assert lost["smpl"]["body_pose"] != seen["smpl"]["body_pose"]
    assert "mask" not in lost
    assert seen["mask"] == {"size": [480, 640], "counts": "abc"}


def test_frame_facts_are_in_the_line():
    """Index, time, shot, damage and another size are told; what is normal is left out."""
    plain = line_of(make_frame(2, source_index=6, pts=99, pts_seconds=1 / 3), first_size=SIZE)
    odd = line_of(make_frame(3, shot=True, is_corrupt=True, width=320, height=200), first_size=SIZE)

    assert plain == {"frame": 2, "source_frame": 6, "time_s": 0.333333, "pts": 99, "shot": 0, "people": []}
    assert (odd["shot"], odd["corrupt"], odd["size"]) == (1, True, [320, 200])
