"""The free body: SMPL's counts and conventions, and its UV map."""

from collections import Counter

import numpy as np
import pytest
import torch

from model_cache.lite.load import LITE_FOLDER, read_uv_map
from model_cache.networks.smpl import Smpl
from model_cache.store.body_files import read_body

LEFT_RIGHT = [(1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21), (22, 23)]


@pytest.fixture(scope="module")
def body():
    """The bundled body as the networks read it."""
    return read_body(LITE_FOLDER / "body.npz")


@pytest.fixture(scope="module")
def rest(body):
    """The mean body in T-pose."""
    identity = torch.eye(3).expand(1, 24, 3, 3)
    return Smpl(body)(identity[:, :1], identity[:, 1:], torch.zeros(1, 10))


def test_body_has_smpls_counts_and_rests_at_its_template(body, rest):
    """6,890 vertices, 13,776 faces, ten shapes, no pose directions, and averages where SMPL has averages."""
    assert body.v_template.shape == (6890, 3)
    assert body.faces.shape == (13776, 3)
    assert body.shapedirs.shape == (6890, 3, 10)
    assert body.posedirs is None
    np.testing.assert_allclose(rest.vertices[0], body.v_template, atol=2e-6)
    for rows in (body.lbs_weights, body.joint_regressor, body.joint_regressor_extra):
        assert rows.min() >= 0
        assert np.allclose(rows.sum(1), 1, atol=2e-3)


def test_body_is_watertight_and_its_faces_look_outwards(body):
    """Each edge borders two faces in opposite directions: closed, of genus 0, of a person's signed volume."""
    edges = Counter(map(tuple, body.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).tolist()))
    a, b, c = (body.v_template[body.faces[:, i]].astype(np.float64) for i in range(3))
    volume = np.einsum("ij,ij->", a, np.cross(b, c)) / 6

    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)
    assert 6890 - len(edges) // 2 + len(body.faces) == 2
    assert 0.05 < volume < 0.1
    assert np.ptp(body.v_template[:, 1]) == pytest.approx(1.83, abs=0.05)


def test_rest_pose_is_smpls_t_pose(rest):
    """Left is +x, up is +y, arms lie along x, toes point along +z, both sides are alike."""
    joints = rest.smpl_joints[0].numpy()
    mirrored = joints * [-1, 1, 1]

    for left, right in LEFT_RIGHT:
        assert joints[left, 0] > 0.01
        assert np.allclose(joints[left], mirrored[right], atol=0.01)
    assert abs(joints[20] - joints[16])[1:].max() < 0.02  # wrist and shoulder: one height, one depth
    assert joints[15, 1] > joints[12, 1] > joints[0, 1] > joints[4, 1] > joints[7, 1]
    assert joints[10, 2] > joints[7, 2] + 0.08


def test_vertex_joints_lie_where_their_names_say(rest):
    """Nose before the head, eyes left and right above it, heels behind the toes, finger tips past hands."""
    openpose = rest.joints[0, :25].numpy()
    nose, right_eye, left_eye, left_toe, left_heel = openpose[[0, 15, 16, 19, 21]]
    tips = Smpl(read_body(LITE_FOLDER / "body.npz")).extra_joint_vertex_ids[11:16]
    vertices = rest.vertices[0].numpy()

    assert nose[2] > rest.smpl_joints[0, 15, 2] + 0.08
    assert right_eye[0] < -0.02 < 0.02 < left_eye[0]
    assert min(right_eye[1], left_eye[1]) > nose[1]
    assert left_toe[2] > left_heel[2] + 0.15
    assert vertices[tips[1:], 0].min() > rest.smpl_joints[0, 22, 0]


def test_shapes_change_the_body_smoothly(body):
    """One deviation of the first shape changes the height by centimetres, and neighbours move together."""
    offsets = 2 * body.shapedirs[:, :, 0]
    along_edges = np.linalg.norm(offsets[body.faces[:, 0]] - offsets[body.faces[:, 1]], axis=1)

    assert np.ptp((body.v_template + offsets)[:, 1]) != pytest.approx(np.ptp(body.v_template[:, 1]), abs=0.03)
    assert along_edges.max() < 0.03


def test_uv_map_shows_points_of_the_body(body):
    """Texels name faces with weights that sum to one, cover most of map and body, and neighbours are near."""
    uv = read_uv_map()
    seen = uv.face_index >= 0
    corners = body.v_template[body.faces[uv.face_index.clip(0)]]
    points = np.einsum("rck,rckd->rcd", uv.barycentric, corners)
    steps = np.linalg.norm(np.diff(points, axis=1), axis=2)[seen[:, 1:] & seen[:, :-1]]

    assert seen.shape == (256, 256)
    assert 0.5 < seen.mean() < 0.75
    assert uv.face_index.max() < len(body.faces)
    assert np.allclose(uv.barycentric[seen].sum(1), 1, atol=2e-3)
    assert len(np.unique(uv.face_index[seen])) > 0.75 * len(body.faces)
    assert np.median(steps) < 0.01
    assert (steps > 0.05).mean() < 0.03
