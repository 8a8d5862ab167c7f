"""The texture sampler: PHALP's golden textures, and what each texel must show."""

import numpy as np
import pytest
import torch

from model_cache.errors import WeightsInvalid
from model_cache.load import load_uv_map
from model_cache.networks.crops import normalised_levels
from model_cache.networks.depth import FOCAL_LENGTH_PX
from model_cache.networks.hmr2 import BodyEstimator
from model_cache.networks.texture import TextureSampler, UvMap, look_up
from model_cache.store.load import load_body, load_hmr2


@pytest.fixture(scope="module")
def crops(golden):
    """The four golden crops and their masks as the sampler gets them."""
    people = golden("hmr2_tiny")
    crops_rgb = np.moveaxis(people["crops_bgr"][..., ::-1], -1, 0)
    colours = [levels[channel] for levels, channel in zip(normalised_levels(), crops_rgb, strict=True)]
    mask = (people["mask"] >= 1).astype(np.float32)
    return torch.from_numpy(np.stack([*colours, mask], axis=1))


@pytest.fixture(scope="module")
def vertices(crops, official_tiny_store):
    """The bodies that the tiny HMR2 sees in them, before the crops' cameras."""
    body = load_body(official_tiny_store / "smpl.safetensors")
    estimate = BodyEstimator(load_hmr2(official_tiny_store), body)(crops[:, :3])
    return estimate.vertices + estimate.crop_cam_t[:, None]


@pytest.fixture(scope="module")
def make_sampler(golden, official_tiny_store):
    """A sampler of the converted UV map and the stand-in body, on a device."""
    faces = golden("standin_smpl")["faces"].astype(np.int64)
    uv_map = load_uv_map(official_tiny_store)
    return lambda device: TextureSampler(uv_map=uv_map, faces=faces, device=device)


@pytest.fixture(scope="module")
def sampler(make_sampler):
    """The sampler on the CPU."""
    return make_sampler("cpu")


def test_look_up_and_unwrapping_are_those_of_phalp(golden, crops, sampler):
    """Fed PHALP's own grid and depth, the sampler gives its depths, visibility and texture.

    Exactly, but for last bits: bilinear kernels of other processors round depths of 44 m by 1.5e-5 otherwise,
    and a few of the 55,645 texels lie that close to the surface that hides them.
    """
    data = golden("texture")
    stored = (data["depth"][:1], data["grid_0"][None], data["texel_depth_0"][None])
    texels = look_up(crops[:1], *map(torch.from_numpy, stored))
    visible = np.unpackbits(data["visible_packed"], axis=-1)[0, : int(data["n_texels"])].astype(bool)
    np.testing.assert_allclose(texels.surface_depth[0], data["ren_depth_at_texel_0"], atol=4e-5, rtol=0)
    assert (visible != texels.visible[0].numpy()).sum() <= 40
    texture, expected = sampler.unwrap(texels)[0].numpy(), data["uv_vector_0"]
    alike = texture[3] == expected[3]
    assert (~alike).sum() <= 40
    np.testing.assert_allclose(texture[:, alike], expected[:, alike], atol=2e-6, rtol=0)  # colours up to 0.6


def test_batch_equals_people_one_by_one(crops, vertices, sampler):
    """A person's texture does not depend on who else is in the batch."""
    one_by_one = [sampler.sample(crops[row : row + 1], vertices[row : row + 1]) for row in range(2)]
    assert torch.equal(torch.cat(one_by_one), sampler.sample(crops[:2], vertices[:2]))
    assert sampler.sample(crops[:0], vertices[:0]).shape == (0, 4, 256, 256)


def two_walls():
    """A wall at 40 m over the left half of the crop, one at 50 m over the whole, and a 2x3 UV map of them.

    Texels: front wall's middle, back wall's left (hidden) and right (seen), one without surface, back wall's
    top right (not on the person), back wall beyond the crop.
    """

    def at(x, y, z):
        return [(x - 128) / FOCAL_LENGTH_PX * z, (y - 128) / FOCAL_LENGTH_PX * z, z]

    front = [at(0, 0, 40), at(128, 0, 40), at(128, 256, 40), at(0, 256, 40)]
    back = [at(0, 0, 50), at(512, 0, 50), at(512, 256, 50), at(0, 256, 50)]
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])

    def weights(face, x, y):
        corners = np.array([front + back][0])[faces[face]]
        point = np.linalg.solve(corners.T, np.array(at(x, y, corners[0, 2])))
        return point / point.sum()

    places = [(0, 80, 60), (2, 100, 20), (2, 200, 60), None, (2, 250, 10), (2, 400, 60)]
    face_index = np.array([place[0] if place else -1 for place in places]).reshape(2, 3)
    barycentric = np.array([weights(*place) if place else np.zeros(3) for place in places], np.float32)
    uv_map = UvMap(barycentric=barycentric.reshape(2, 3, 3), face_index=face_index)
    return TextureSampler(uv_map=uv_map, faces=faces), torch.tensor([front + back], dtype=torch.float32)


@pytest.mark.parametrize("felt", [1e-6, 1.0, 255.0])
def test_texel_shows_the_crop_where_its_point_is_seen(felt):
    """Texels in sight carry their colour over five; hidden, off-person and outside ones are blank.

    A mask that is barely above zero is the person's, whatever scale the mask has.
    """
    sampler, vertices = two_walls()
    crop = torch.zeros(1, 4, 256, 256)
    crop[:, 0] = torch.arange(256.0)[None] / 100  # red grows to the right
    crop[:, 1] = torch.arange(256.0)[:, None] / 100  # green grows downwards
    crop[:, 2] = -1
    crop[:, 3, 30:] = felt  # the top 30 rows are not the person
    texture = sampler.sample(crop, vertices)[0]
    torch.testing.assert_close(texture[3], torch.tensor([[1.0, -1.0, 1.0], [-1.0, -1.0, -1.0]]))
    expected = torch.zeros(3, 2, 3)
    expected[:, 0, 0] = torch.tensor([0.795, 0.595, -1]) / 5  # pixel centres lie at 79.5 and 59.5
    expected[:, 0, 2] = torch.tensor([1.995, 0.595, -1]) / 5
    torch.testing.assert_close(texture[:3], expected, rtol=1e-4, atol=1e-5)


def test_uv_map_of_another_body_is_refused():
    """A UV map that names triangles the body does not have cannot be loaded with it."""
    uv_map = UvMap(barycentric=np.ones((2, 2, 3), np.float32), face_index=np.full((2, 2), 5))
    with pytest.raises(WeightsInvalid, match="does not fit"):
        TextureSampler(uv_map=uv_map, faces=np.zeros((5, 3), np.int64))


@pytest.mark.needs_gpu
def test_gpu_textures_are_those_of_the_cpu(crops, vertices, sampler, make_sampler):
    """On a GPU the same texels are seen with the same colours, but for visibility flips."""
    found = make_sampler("cuda").sample(crops.cuda(), vertices.cuda()).cpu()
    expected = sampler.sample(crops, vertices)
    assert (expected[:, 3] != found[:, 3]).float().mean(dim=(1, 2)).max() <= 0.003
    both = (expected[:, 3] > 0) & (found[:, 3] > 0)
    assert (expected - found)[:, :3].abs().amax(1)[both].max() <= 1e-4
