"""Depth maps: PHALP's golden ones, geometry that can be worked out by hand, and the plainest rasteriser."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_cache.networks import depth as depth_module
from model_cache.networks.depth import (
    FAR_DEPTH,
    FOCAL_LENGTH_PX,
    MAP_SIZE,
    compiled_fill,
    depth_maps,
    fill_in_torch,
)
from model_cache.store.load import load_body


@pytest.fixture(scope="module")
def golden_scene(golden, official_tiny_store):
    """Vertices of the four golden people from HMR2's stored output, the faces, and their golden depth."""
    people = golden("hmr2_tiny")
    body = load_body(official_tiny_store / "smpl.safetensors")
    names = ("global_orient", "body_pose", "betas")
    with torch.inference_mode():
        posed = body(*(torch.from_numpy(people[name]) for name in names))
        vertices = posed.vertices + torch.from_numpy(people["pred_cam_t"])[:, None]
    texture = golden("texture")
    np.testing.assert_allclose(vertices[:, ::10], texture["verts_cam_sub"], atol=5e-5)
    return vertices, torch.from_numpy(body.faces), torch.from_numpy(texture["depth"])


@pytest.fixture(scope="module", params=["torch", "numba"])
def fill(request):
    """Each way of filling; numba's is compiled once."""
    if request.param == "torch":
        return fill_in_torch
    pytest.importorskip("numba")
    return compiled_fill()


def at_pixels(pixels, z):
    """Vertices (v, 3) that project to pixel coordinates (border of the crop at 0 and 256) at depth z."""
    z = np.broadcast_to(z, len(pixels))[:, None]
    xy = (np.asarray(pixels, float) - MAP_SIZE / 2) / FOCAL_LENGTH_PX * z
    return torch.from_numpy(np.concatenate([xy, z], axis=1).astype(np.float32))[None]


def triangle_soup(seed, *, count=40, size=40):
    """Triangles in random places, sizes and windings between 30 and 60 m; some leave the crop."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-20, 276, (count, 1, 2)) + rng.uniform(-size, size, (count, 3, 2))
    z = rng.uniform(30, 60, (count, 3))
    faces = torch.arange(3 * count).reshape(count, 3)
    return at_pixels(corners.reshape(-1, 2), z.reshape(-1)), faces


def plainest_depth(vertices, faces):
    """Every triangle against every pixel in float64; also says which pixels lie close to any edge."""
    points = vertices[0].double().numpy()
    pixels = points[:, :2] / points[:, 2:] * FOCAL_LENGTH_PX + MAP_SIZE / 2
    y, x = np.mgrid[:MAP_SIZE, :MAP_SIZE] + 0.5
    depth, near_edge = np.full((MAP_SIZE, MAP_SIZE), FAR_DEPTH), np.zeros((MAP_SIZE, MAP_SIZE), bool)
    for face in faces.numpy():
        (x0, y0), (x1, y1), (x2, y2) = pixels[face]
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        w0 = ((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) / area
        w1 = ((x0 - x2) * (y - y2) - (y0 - y2) * (x - x2)) / area
        weights = np.stack([w0, w1, 1 - w0 - w1])
        near_edge |= (np.abs(weights) < 1e-3).any(axis=0)
        with np.errstate(divide="ignore"):
            z = 1 / np.tensordot(1 / points[face, 2], weights, axes=1)
        depth = np.where((weights >= 0).all(axis=0) & (z < depth), z, depth)
    return depth, near_edge


def test_depth_is_that_of_phalp(golden_scene):
    """The golden people's depth maps agree within the tolerances of golden/README.md."""
    vertices, faces, expected = golden_scene
    found = depth_maps(vertices, faces)
    person, background = expected < FAR_DEPTH, found == FAR_DEPTH
    assert (person == background).float().mean() <= 0.0005
    differences = (expected - found).abs()[person & ~background]
    assert (differences > 2e-4).float().mean() <= 0.001
    assert differences.max() <= 0.04


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_depth_equals_the_plainest_rasteriser(seed):
    """Overlapping triangles of both windings cover and hide as in a loop over triangles in float64."""
    vertices, faces = triangle_soup(seed)
    expected, near_edge = plainest_depth(vertices, faces)
    found = depth_maps(vertices, faces)[0].numpy()
    np.testing.assert_allclose(found[~near_edge], expected[~near_edge], rtol=1e-4)
    assert near_edge.mean() < 0.1


def test_shared_edges_leave_no_cracks():
    """A square cut into 2 x 40 x 40 random triangles is covered like the square itself."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:41, :41] * 4.0 + 40.3
    y[1:-1, 1:-1] += rng.uniform(-1.9, 1.9, (39, 39))
    x[1:-1, 1:-1] += rng.uniform(-1.9, 1.9, (39, 39))
    corner = (np.arange(41 * 40).reshape(40, 41)[:, :40]).ravel()
    quads = np.stack([corner, corner + 1, corner + 42, corner + 41], axis=1)
    faces = torch.from_numpy(np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]))
    vertices = at_pixels(np.stack([x.ravel(), y.ravel()], axis=1), rng.uniform(40, 50, 41 * 41))
    covered = depth_maps(vertices, faces)[0] < FAR_DEPTH
    assert covered[40:200, 40:200].all()
    assert covered.sum() == 160 * 160


def test_batch_equals_people_one_by_one(fill):
    """Meshes of a batch do not touch each other."""
    faces = triangle_soup(0)[1]
    meshes = [triangle_soup(seed)[0] for seed in range(3)]
    one_by_one = torch.cat([depth_maps(mesh, faces, fill=fill) for mesh in meshes])
    assert torch.equal(one_by_one, depth_maps(torch.cat(meshes), faces, fill=fill))
    assert depth_maps(meshes[0][:0], faces, fill=fill).shape == (0, MAP_SIZE, MAP_SIZE)


def test_filling_in_parts_changes_nothing(golden_scene, monkeypatch):
    """However few pixels are listed at once, which bounds the memory, the map stays the same."""
    vertices, faces, _ = golden_scene
    expected = depth_maps(vertices, faces)
    monkeypatch.setitem(depth_module.CANDIDATES_AT_ONCE, "cpu", 10_000)
    assert torch.equal(expected, depth_maps(vertices, faces))


def test_every_fill_gives_the_numbers_of_torch(golden_scene, fill):
    """The golden people come out the same whichever way triangles are filled."""
    vertices, faces, _ = golden_scene
    found = depth_maps(vertices, faces, fill=fill)
    torch.testing.assert_close(found, depth_maps(vertices, faces), rtol=1e-6, atol=0)


@pytest.mark.needs_gpu
def test_gpu_gives_the_numbers_of_the_cpu(golden_scene):
    """The golden people drawn on a GPU cover the same pixels at the same depth, but for rounding at edges."""
    vertices, faces, _ = golden_scene
    expected, found = depth_maps(vertices, faces), depth_maps(vertices.cuda(), faces.cuda()).cpu()
    assert ((expected < FAR_DEPTH) != (found < FAR_DEPTH)).float().mean() <= 0.0005
    both = (expected < FAR_DEPTH) & (found < FAR_DEPTH)
    assert ((expected - found).abs()[both] > 2e-4).float().mean() <= 0.001


@pytest.mark.parametrize("z", [np.nan, np.inf, -40.0, 0.0, 0.05, 100.0, 140.0], ids=lambda z: f"z={z}")
def test_what_is_out_of_depth_draws_nothing(z, fill):
    """Surfaces behind the camera, before near, past far or not finite leave the background."""
    vertices = at_pixels([(0, 0), (256, 0), (0, 256)], 50)
    vertices[..., 2] = z
    found = depth_maps(vertices, torch.tensor([[0, 1, 2]]), fill=fill)
    assert (found == FAR_DEPTH).all()


def test_triangle_without_area_does_no_harm(fill):
    """A triangle squeezed to a line through pixel centres, or to a point, does not spoil the map."""
    vertices = at_pixels([(10.5, 10.5), (20.5, 10.5), (30.5, 10.5)], 50)
    found = depth_maps(vertices, torch.tensor([[0, 1, 2], [0, 0, 0]]), fill=fill)
    assert found.isfinite().all()
    assert ((found == FAR_DEPTH) | ((found - 50).abs() < 1e-3)).all()
