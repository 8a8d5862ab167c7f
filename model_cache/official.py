"""The official HMR2 and PHALP networks out of the weights store. Knows nothing of other models or jobs."""

from pathlib import Path
from typing import Literal

import torch

from model_cache.interfaces import ModelFile, ModelsDescription
from model_cache.loaded import LoadedModels, Stopwatch, assemble
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.rf_detr import load_rf_detr
from model_cache.networks.texture import UvMap
from model_cache.settings import ModelSettings
from model_cache.store.files import read_store, sha256_of
from model_cache.store.load import load_hmr2, load_pose_predictor, read_tensors

SMPL_NOTICE = (
    "Parameters of the SMPL body model: its licence, and a commercial one where it applies, is the "
    "responsibility of whoever runs this worker and uses this result."
)


def load_official(
    settings: ModelSettings, device: torch.device, dtype: torch.dtype, watch: Stopwatch
) -> LoadedModels:
    """HMR2 (ViT-H), PHALP's encoder and predictor, the operator's SMPL body, and RF-DETR-Seg.

    Raises:
        WeightsMissing: a file is not in the store; the message says which.
        WeightsInvalid: a file is not what it should be.
    """
    store = settings.model_store
    precision: Literal["fp32", "bf16"] = "bf16" if dtype == torch.bfloat16 else "fp32"
    with watch.step("hmr2"):
        hmr2 = load_hmr2(store, device, precision)
    with watch.step("phalp"):
        encoder = AppearanceEncoder.from_state(read_tensors(store, "appearance")).to(device)
        predictor = load_pose_predictor(store, device)
        uv = read_tensors(store, "uv_map")
    with watch.step("detector"):
        folder = store / settings.detector
        detector = load_rf_detr(folder, device=device, dtype=dtype, score_floor=settings.detector_score_floor)
    return assemble(
        detector=detector,
        hmr2=hmr2,
        uv_map=UvMap(barycentric=uv["bmap"].numpy(), face_index=uv["fmap"].numpy()),
        encoder=encoder,
        predictor=predictor,
        description=ModelsDescription(
            models="official",
            engine="native",
            detector=folder.name,
            backbone="vit",
            body_model="smpl",
            precision=precision,
            device=device_name(device),
            files=_files(store, folder),
            notice=SMPL_NOTICE,
        ),
        device=device,
        max_crops=settings.max_batch_crops,
        watch=watch,
    )


def device_name(device: torch.device) -> str:
    """`cpu`, or what the GPU calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _files(store: Path, detector: Path) -> tuple[ModelFile, ...]:
    """The weight files behind a result; the store recorded the hashes of its own when it wrote them."""
    recorded = [
        ModelFile(role=role, name=name, sha256=facts["sha256"])
        for role, model in read_store(store)["models"].items()
        for name, facts in model["files"].items()
        if name.endswith(".safetensors")
    ]
    weights = detector / "model.safetensors"
    return (*recorded, ModelFile(role="detector", name=detector.name, sha256=sha256_of(weights)))
