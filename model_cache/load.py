"""Loads the models of a worker, once, with timings."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import structlog
import torch

from model_cache.errors import EngineMissing, WeightsMissing
from model_cache.interfaces import ModelFile, Models, ModelsDescription
from model_cache.loaded import LoadedModels, Stopwatch, assemble, device_name, warm_up
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.detector import load_detector
from model_cache.networks.hmr2 import BodyRegressor, load_regressor
from model_cache.networks.texture import UvMap
from model_cache.registry import HMR2, MOVENET, check_detector, check_regressor, detector_entry
from model_cache.settings import ModelSettings
from model_cache.store.files import read_store
from model_cache.store.load import load_body, load_hmr2, load_pose_predictor, read_tensors

SMPL_NOTICE = (
    "Parameters of the SMPL body model: its licence, and a commercial one where it applies, is the "
    "responsibility of whoever runs this worker and uses this result."
)
Precision = Literal["fp32", "bf16"]

log = structlog.get_logger(__name__)


def load(settings: ModelSettings, *, warm_up_frames: int = 1) -> Models:
    """The models that the settings ask for, warmed up.

    Args:
        settings: which, from where, on which device.
        warm_up_frames: frames in the batches that jobs will send, so that the first job meets warm networks.

    Raises:
        UnknownModel: DETECTOR or BODY_REGRESSOR names nothing that can be loaded.
        WeightsMissing: official models are asked for and a file is missing; the message says which.
        WeightsInvalid: a file is not what it should be.
        EngineMissing: no such GPU; or ENGINE=upstream, and its packages are not there.
    """
    if settings.model_threads:
        torch.set_num_threads(settings.model_threads)
    device = choose_device(settings.model_device)
    check_detector(settings.detector, settings.model_store)
    check_regressor(settings.body_regressor)
    watch = Stopwatch()
    if settings.engine == "upstream":
        from model_cache.upstream.load import load_upstream  # brings its own heavy libraries

        return load_upstream(settings, device, watch)
    models = _load_native(settings, device, watch)
    with watch.step("warm_up"):
        warm_up(models, num_frames=warm_up_frames)
    return models


def choose_device(wanted: str) -> torch.device:
    """`auto` is the first GPU, or the CPU where there is none.

    Raises:
        EngineMissing: a GPU is asked for that is not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineMissing(f"MODEL_DEVICE={wanted}, but this machine has {torch.cuda.device_count()} GPUs")
    return device


def choose_precision(settings: ModelSettings, device: torch.device) -> Precision:
    """`auto` is bf16 on a GPU that computes in it, else fp32."""
    if settings.model_precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return settings.model_precision


def _load_native(settings: ModelSettings, device: torch.device, watch: Stopwatch) -> LoadedModels:
    from model_cache.lite.load import load_lite  # brings onnxruntime

    if settings.models == "lite":
        return load_lite(settings, watch)
    try:
        return load_official(settings, device, choose_precision(settings, device), watch)
    except WeightsMissing as error:
        if settings.models == "official":
            raise
        log.warning("using the bundled lite models", reason=str(error))
        if detector_entry(settings.detector).files:  # perhaps it is what is missing
            settings = settings.model_copy(update={"detector": MOVENET})
        return load_lite(settings, watch)


def load_official(
    settings: ModelSettings, device: torch.device, precision: Precision, watch: Stopwatch
) -> LoadedModels:
    """HMR2 (ViT-H), PHALP's encoder and predictor, the operator's SMPL body, and the chosen detector.

    Raises:
        WeightsMissing: a file is not in the store; the message says which.
        WeightsInvalid: a file is not what it should be.
    """
    store = settings.model_store
    options = settings.load_options(settings.detector, str(device), precision)
    own_hmr2 = settings.body_regressor == HMR2
    with watch.step("hmr2"):
        regressor: BodyRegressor = (
            load_hmr2(store, device, precision)
            if own_hmr2
            else load_regressor(replace(options, name=settings.body_regressor))
        )
        body = load_body(store / "smpl.safetensors", device)
    with watch.step("phalp"):
        encoder = AppearanceEncoder.from_state(read_tensors(store, "appearance")).to(device)
        predictor = load_pose_predictor(store, device)
        uv_map = load_uv_map(store)
    with watch.step("detector"):
        detector = load_detector(options)
    return assemble(
        detector=detector,
        regressor=regressor,
        body=body,
        uv_map=uv_map,
        encoder=encoder,
        predictor=predictor,
        description=ModelsDescription(
            models="official",
            engine="native",
            detector=Path(settings.detector).name,
            backbone="vit" if own_hmr2 else settings.body_regressor,
            body_model="smpl",
            precision=precision,
            device=device_name(device),
            files=_converted_files(settings),
            notice=SMPL_NOTICE,
        ),
        device=device,
        max_crops=settings.max_batch_crops,
        watch=watch,
    )


def load_uv_map(store: Path) -> UvMap:
    """SMPL's UV map out of the store."""
    maps = read_tensors(store, "uv_map")
    return UvMap(barycentric=maps["bmap"].numpy(), face_index=maps["fmap"].numpy())


def _converted_files(settings: ModelSettings) -> tuple[ModelFile, ...]:
    """The store's own weight files; it recorded their hashes when it wrote them."""
    recorded = read_store(settings.model_store)["models"]
    return tuple(
        ModelFile(role=role, name=name, sha256=facts["sha256"])
        for role in recorded
        if role != HMR2 or settings.body_regressor == HMR2
        for name, facts in recorded[role]["files"].items()
        if name.endswith(".safetensors")
    )
