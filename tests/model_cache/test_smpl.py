"""SMPL: joints and vertices against the official packages, and what must hold for any body."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_cache.networks.smpl import Smpl, SmplBody, rotation_from_6d
from model_cache.store.body_files import read_body


@pytest.fixture(scope="module")
def body_data(official_tiny_store):
    """The stand-in body, converted from its Python-2 pickle."""
    return read_body(official_tiny_store / "smpl.safetensors")


@pytest.fixture(scope="module")
def poses(golden):
    """Root rotation, joint rotations and shape of four people."""
    data = golden("smpl")
    rotations = torch.from_numpy(data["rotmat"])
    return rotations[:, :1], rotations[:, 1:], torch.from_numpy(data["betas"])


def test_rotation_from_6d_gives_the_official_matrices(golden):
    """Six numbers are two consecutive vectors, made the first two columns of the rotation."""
    data = golden("smpl")
    rotations = rotation_from_6d(torch.from_numpy(data["rot6d"]))
    np.testing.assert_allclose(rotations.numpy(), data["rotmat"], atol=2e-6, rtol=0)


def test_smpl_gives_the_official_joints_and_vertices(golden, body_data, poses):
    """A body converted from the pickle poses as smplx does, and its 44 joints are HMR2's."""
    data = golden("smpl")
    posed = Smpl(body_data)(*poses)
    np.testing.assert_allclose(posed.joints.numpy(), data["joints44"], atol=2e-6, rtol=0)
    np.testing.assert_allclose(posed.vertices[:, ::8].numpy(), data["vertices_sub"], atol=2e-6, rtol=0)
    np.testing.assert_allclose(posed.vertices[2].numpy(), data["vertices_full_2"], atol=2e-6, rtol=0)


def test_smpl_body_gives_the_same_numbers_as_arrays(body_data, poses):
    """The numpy promise is the torch body; arrays that may not be written to are taken without a warning."""
    smpl = Smpl(body_data)
    body, arrays = SmplBody(smpl), [tensor.numpy().copy() for tensor in poses]
    for array in arrays:
        array.flags.writeable = False
    posed = smpl(*poses)
    joints, smpl_joints = body.joints(*arrays)
    np.testing.assert_array_equal(joints, posed.joints.numpy())
    np.testing.assert_array_equal(smpl_joints, posed.smpl_joints.numpy())
    np.testing.assert_array_equal(body.vertices(*arrays), posed.vertices.numpy())
    assert body.faces.shape == (13776, 3)


def test_body_without_posedirs_equals_one_with_zeros(body_data, poses):
    """Leaving out pose blend shapes that are all zero changes no number."""
    without = Smpl(dataclasses.replace(body_data, posedirs=None))(*poses)
    zeros = Smpl(dataclasses.replace(body_data, posedirs=np.zeros((6890, 3, 207), np.float32)))
    assert not zeros.has_posedirs
    torch.testing.assert_close(zeros(*poses).vertices, without.vertices, atol=0, rtol=0)
    kept = Smpl(body_data)(*poses)
    assert not torch.allclose(kept.vertices[2], without.vertices[2], atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(six=st.lists(st.floats(-10, 10, width=32), min_size=6, max_size=6))
def test_rotations_are_rotations(six):
    """Whatever the network says, unless its two vectors are parallel, the result is a proper rotation."""
    vectors = np.array(six, np.float64).reshape(2, 3)
    if np.linalg.norm(np.cross(*vectors)) < 1e-2:
        return
    rotation = rotation_from_6d(torch.tensor(six, dtype=torch.float64))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.linalg.det(rotation).item() == pytest.approx(1, abs=1e-6)
