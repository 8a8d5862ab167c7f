"""The texture path against the simplest correct version of each stage: `python -m benchmarks.texture_path`.

On one core; with a GPU also there (`--device cuda`). Depth and textures are per person, distances per frame
of 5 tracks and 5 detections. People are the tests' stand-in body posed as HMR2 posed the golden people.
"""

import argparse

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import best_ms, print_head, print_row
from model_cache.networks.appearance import LAYERS, AppearanceEncoder, UvTexture, UvTextureModel
from model_cache.networks.depth import FAR_DEPTH, FOCAL_LENGTH_PX, MAP_SIZE, compiled_fill, depth_maps
from model_cache.networks.smpl import EXTRA_JOINT_VERTEX_IDS, BodyData, Smpl
from model_cache.networks.texture import TextureSampler, UvMap, look_up
from tests.goldens import load_golden

RASTERISER_LIMIT_MS = 25.0  # a person on one core in pure torch


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    device = parser.parse_args().device
    torch.set_num_threads(1)
    people = load_golden("hmr2_tiny")
    body = standin_body()
    vertices = posed_people(body, people).to(device)
    print_head(f"texture path, {device}, one core, ms a person (distances: a frame)")
    with torch.inference_mode():
        compare_depth(vertices, torch.from_numpy(body.faces).to(device), device)
        compare_sampling(body, vertices, people, device)
        compare_encoders(device)
        compare_mixing(device)


def compare_depth(vertices: Tensor, faces: Tensor, device: str) -> None:
    """The rasteriser against a loop over triangles in numpy."""
    points, triangles = vertices[0].cpu().numpy(), faces.cpu().numpy()
    plain_ms = best_ms(lambda: loop_depth(points, triangles), repeats=1)
    difference = np.abs(loop_depth(points, triangles) - depth_maps(vertices[:1], faces)[0].cpu().numpy())
    assert (difference > 1e-3).mean() < 1e-4, "the two rasterisers disagree"
    one = best_ms(lambda: depth_maps(vertices[:1], faces), device=device)
    print_row("depth map, torch, 1 person", plain_ms, one)
    for num_people in (4, 20):
        crowd = vertices.repeat(-(-num_people // 4), 1, 1)[:num_people]
        many = best_ms(lambda crowd=crowd: depth_maps(crowd, faces), repeats=5, device=device)
        print_row(f"depth map, torch, {num_people} people", plain_ms, many / num_people)
    fill = compiled_fill() if device == "cpu" else None
    if fill is not None:
        print_row("depth map, numba", plain_ms, best_ms(lambda: depth_maps(vertices[:1], faces, fill=fill)))
    if device == "cpu":
        verdict = "met" if one <= RASTERISER_LIMIT_MS else "MISSED"
        print(f"  limit of {RASTERISER_LIMIT_MS:.0f} ms a person in pure torch on one core: {verdict}")


def compare_sampling(body: BodyData, vertices: Tensor, people: dict[str, np.ndarray], device: str) -> None:
    """The sampler in a batch against one person at a time with the depth map by the loop."""
    maps = load_golden("standin_uvmaps")
    uv_map = UvMap(barycentric=maps["bmap"], face_index=maps["fmap"].astype(np.int64))
    sampler = TextureSampler(uv_map=uv_map, faces=body.faces, device=device, compiled=False)
    pixels = torch.from_numpy(people["crops_bgr"][..., ::-1].copy()).movedim(-1, 1).float() / 64 - 2
    crops = torch.cat([pixels, torch.from_numpy(people["mask"])[:, None] / 255], dim=1).to(device)

    def one_person_by_loops() -> None:
        depth = torch.from_numpy(loop_depth(vertices[0].cpu().numpy(), body.faces).astype(np.float32))
        points = torch.zeros(sampler.num_texels, 3)
        seen = maps["fmap"] >= 0
        for corner in range(3):
            rows = torch.from_numpy(body.faces[maps["fmap"][seen], corner])
            points += torch.from_numpy(maps["bmap"][seen][:, corner, None]) * vertices[0].cpu()[rows]
        grid = points[:, :2] / points[:, 2:] * (2 * FOCAL_LENGTH_PX / MAP_SIZE)
        look_up(crops[:1].cpu(), depth[None], grid[None], points[None, :, 2])

    plain_ms = best_ms(one_person_by_loops, repeats=1)
    ours = best_ms(lambda: sampler.sample(crops, vertices), repeats=5, device=device)
    print_row("texture, torch, 4 people", plain_ms, ours / 4)


def compare_encoders(device: str) -> None:
    """The encoder and the texture distance against one map, or one pair, at a time."""
    state = random_encoder_state(device)
    encoder = AppearanceEncoder.from_state(state).to(device)
    textures = random_textures(10, device)
    plain_ms = best_ms(lambda: plain_encoding(state, textures[:1]), device=device)
    ours = best_ms(lambda: encoder(textures[:8]), device=device)
    print_row("appearance vector, 8 people", plain_ms, ours / 8)

    model = UvTextureModel(encoder)
    tracks = [UvTexture(texels=texels) for texels in textures[:5]]
    detections = [UvTexture(texels=texels) for texels in textures[5:]]
    pairs = np.stack(np.unravel_index(np.arange(25), (5, 5)), axis=1)
    on_host = textures.cpu().numpy()

    def one_at_a_time() -> np.ndarray:
        """Maps on the host, copied to the device and encoded pair by pair."""
        distances = np.zeros((5, 5))
        for i in range(5):
            for j in range(5):
                a, b = on_host[i].copy(), on_host[5 + j].copy()
                apart = ~((a[3] > 0.5) & (b[3] > 0.5))
                a[:, apart] = 0
                b[:, apart] = 0
                vectors = [
                    plain_encoding(state, torch.from_numpy(x)[None].to(device)).cpu() / 1000 for x in (a, b)
                ]
                distances[i, j] = 100 * float(((vectors[0] - vectors[1]) ** 2).sum())
        return distances

    found = model.distance(tracks, detections, pairs).reshape(5, 5)
    assert np.allclose(found, one_at_a_time(), rtol=1e-3), "the two distances disagree"
    print_row(
        "25 texture distances",
        best_ms(one_at_a_time, repeats=1, device=device),
        best_ms(lambda: model.distance(tracks, detections, pairs), repeats=2, device=device),
    )


def compare_mixing(device: str) -> None:
    """Mixing in place in float32 against masked float64 arrays, as a track's texture is defined."""
    textures = random_textures(2, device)
    model = UvTextureModel(AppearanceEncoder.from_state(random_encoder_state(device)))
    track, detection = (UvTexture(texels=texels) for texels in textures)
    old, new = textures.cpu().numpy()

    def masked_float64() -> np.ndarray:
        mixed = np.zeros((4, 256, 256))
        of_old, of_new = old[3] == 1, new[3] == 1
        both = of_old & of_new
        mixed[:3, both] = 0.9 * old[:3, both].astype(float) + 0.1 * new[:3, both]
        mixed[:3, of_old & ~of_new] = old[:3, of_old & ~of_new]
        mixed[:3, of_new & ~of_old] = new[:3, of_new & ~of_old]
        mixed[3] = np.where(of_old | of_new, 1, -1)
        return mixed

    expected = masked_float64()
    assert np.allclose(expected, model.mix(model.copy(track), detection, 1.0).texels.cpu(), atol=1e-6)  # type: ignore[attr-defined]  # the handle is ours
    ours = best_ms(lambda: model.mix(track, detection, 1.0), repeats=20, device=device)
    print_row("texture mixing", best_ms(masked_float64), ours)


def loop_depth(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The plainest depth map: each triangle over its own box, one after the other."""
    pixels = vertices[:, :2] / vertices[:, 2:] * FOCAL_LENGTH_PX + (MAP_SIZE - 1) / 2
    depth = np.full((MAP_SIZE, MAP_SIZE), FAR_DEPTH)
    for face in faces:
        (x0, y0), (x1, y1), (x2, y2) = pixels[face].astype(float)
        area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
        left, right = max(0, int(np.ceil(min(x0, x1, x2)))), min(MAP_SIZE - 1, int(max(x0, x1, x2)))
        top, bottom = max(0, int(np.ceil(min(y0, y1, y2)))), min(MAP_SIZE - 1, int(max(y0, y1, y2)))
        if area == 0 or left > right or top > bottom:
            continue
        y, x = np.mgrid[top : bottom + 1, left : right + 1]
        w0 = ((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) / area
        w1 = ((x0 - x2) * (y - y2) - (y0 - y2) * (x - x2)) / area
        w2 = 1 - w0 - w1
        z0, z1, z2 = vertices[face, 2]
        z = 1 / (w0 / z0 + w1 / z1 + w2 / z2)
        box = depth[top : bottom + 1, left : right + 1]
        nearer = (w0 >= 0) & (w1 >= 0) & (w2 >= 0) & (z < box)
        box[nearer] = z[nearer]
    return depth


def plain_encoding(state: dict[str, Tensor], textures: Tensor) -> Tensor:
    """Convolution, rectifier, pooling, in torch's default memory order."""
    maps = textures
    for number, name in enumerate(LAYERS):
        maps = functional.conv2d(maps, state[f"{name}.weight"], state[f"{name}.bias"], padding=1).relu()
        if number < 4:
            maps = functional.max_pool2d(maps, 2)
    return maps.flatten(1)


def random_encoder_state(device: str) -> dict[str, Tensor]:
    """An encoder of the official size."""
    widths = (4, 16, 64, 128, 256, 256, 16)
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, num_in, num_out in zip(LAYERS, widths, widths[1:], strict=False):
        weight = torch.randn(num_out, num_in, 3, 3, generator=generator) * (2 / (9 * num_in)) ** 0.5
        state |= {f"{name}.weight": weight.to(device), f"{name}.bias": torch.zeros(num_out, device=device)}
    return state


def random_textures(count: int, device: str) -> Tensor:
    """Maps of which about half the texels are seen."""
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(count, 1, 256, 256, generator=generator) > 0.5).float()
    colours = torch.randn(count, 3, 256, 256, generator=generator) * 0.2 * mask
    return torch.cat([colours, 2 * mask - 1], dim=1).to(device)


def standin_body() -> BodyData:
    """The tests' body, without pose blend shapes."""
    data = load_golden("standin_smpl")
    return BodyData(
        v_template=data["v_template"],
        faces=data["faces"].astype(np.int64),
        shapedirs=data["shapedirs"],
        posedirs=None,
        joint_regressor=data["J_regressor"],
        joint_regressor_extra=data["J19"],
        parents=data["parents"],
        lbs_weights=data["lbs_weights"],
        extra_joint_vertex_ids=np.array(EXTRA_JOINT_VERTEX_IDS),
    )


def posed_people(body: BodyData, people: dict[str, np.ndarray]) -> Tensor:
    """Camera-space vertices of the four golden people."""
    names = ("global_orient", "body_pose", "betas")
    posed = Smpl(body)(*(torch.from_numpy(people[name]) for name in names))
    vertices: Tensor = posed.vertices + torch.from_numpy(people["pred_cam_t"])[:, None]
    return vertices


if __name__ == "__main__":
    main()
