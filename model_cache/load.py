"""Loads the models of a worker, once, with timings."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import structlog
import torch

from model_cache.errors import EngineMissing, WeightsMissing
from model_cache.interfaces import (
    BodyModel,
    FrameTracker,
    ModelFile,
    Models,
    ModelsDescription,
    PosePredictor,
    TextureModel,
    TrackerOptions,
)
from model_cache.networks.appearance import PAIRS_AT_ONCE, AppearanceEncoder, UvTextureModel
from model_cache.networks.detector import Detector, load_detector
from model_cache.networks.device import device_faults, has_bf16, peak_memory, use_exact_float32
from model_cache.networks.hmr2 import BodyEstimator, BodyRegressor, load_regressor
from model_cache.networks.pose_predictor import TransformerPosePredictor
from model_cache.networks.pose_transformer import PoseTransformer
from model_cache.networks.smpl import Smpl, SmplBody
from model_cache.networks.texture import TextureSampler, UvMap
from model_cache.perception import NativePerception
from model_cache.registry import HMR2, MOVENET, LoadOptions, check_detector, check_regressor, detector_entry
from model_cache.settings import ModelSettings
from model_cache.store.files import read_store, sha256_of
from model_cache.store.load import load_hmr2, load_pose_predictor, load_smpl, read_tensors

SMPL_NOTICE = (
    "Parameters of the SMPL body model: its licence, and a commercial one where it applies, is the "
    "responsibility of whoever runs this worker and uses this result."
)
BF16_NOTICE = (
    " Computed in bf16: the last digits also depend on which people share a batch (WORKER_BATCH_FRAMES, "
    "MAX_BATCH_CROPS, halved batches where memory was short)."
)
WARM_UP_TRACKS = (1, 4)  # torch runs other code for one than for several

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsOnDevice:
    """What `Models` of both engines have.

    Attributes:
        body, description: see `interfaces`.
        device: where the networks are.
        seconds: how long each step of loading took.
    """

    body: BodyModel
    description: ModelsDescription
    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @device_faults()
    def clear_cache(self) -> None:
        """Give unused device memory back."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @device_faults()
    def peak_device_bytes(self) -> int | None:
        """Most device memory in use since the last call; None without a GPU."""
        return peak_memory(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModels(PartsOnDevice):
    """`Models` by our own inference."""

    perception: NativePerception
    texture: TextureModel
    pose_predictor: PosePredictor

    @property
    def most_frames(self) -> int | None:
        """Our own perception takes any number."""
        return None

    def begin_tracking(self, options: TrackerOptions) -> FrameTracker | None:
        """None: people are tracked by the worker."""
        return None


class Stopwatch:
    """Names how long each step took, seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block under this name."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
        log.info("loaded", step=name, seconds=self.seconds[name])


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
    device = _device(settings.model_device)
    check_detector(settings.detector, settings.model_store)
    check_regressor(settings.body_regressor)
    watch = Stopwatch()
    if settings.engine == "upstream":
        from model_cache.upstream.load import load_upstream  # brings its own heavy libraries

        return load_upstream(settings, device, watch)
    use_exact_float32()
    models = _load_native(settings, device, watch)
    with watch.step("warm_up"):
        warm_up(models, num_frames=warm_up_frames)
    return models


def load_body_model(body_model: str, settings: ModelSettings) -> BodyModel:
    """The body of this name in `ModelsDescription`, without any network.

    Raises:
        WeightsMissing: SMPL is not in the store.
        WeightsInvalid: it is not what it should be.
        EngineMissing: no such GPU.
    """
    from model_cache.lite.load import load_lite_body

    if body_model == "free":
        return SmplBody(load_lite_body())
    return SmplBody(load_smpl(settings.model_store, _device(settings.model_device)))


def _device(wanted: str) -> torch.device:
    """`auto` is the first GPU, or the CPU where there is none."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineMissing(f"MODEL_DEVICE={wanted}, but this machine has {torch.cuda.device_count()} GPUs")
    return device


def _load_native(settings: ModelSettings, device: torch.device, watch: Stopwatch) -> LoadedModels:
    from model_cache.lite.load import load_lite  # brings onnxruntime

    if settings.models == "lite":
        return load_lite(settings, watch)
    try:
        return _load_official(settings, device, watch)
    except WeightsMissing as error:
        if settings.models == "official":
            raise
        log.warning("using the bundled lite models", reason=str(error))
        if detector_entry(settings.detector).files:  # perhaps it is what is missing
            settings = settings.model_copy(update={"detector": MOVENET})
        return load_lite(settings, watch)


def _load_official(settings: ModelSettings, device: torch.device, watch: Stopwatch) -> LoadedModels:
    """HMR2 (ViT-H), PHALP's encoder and predictor, the operator's SMPL body, and the chosen detector."""
    store = settings.model_store
    precision: Literal["auto", "fp32", "bf16"] = settings.model_precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    options = settings.load_options(settings.detector, str(device), precision)
    regressor, detector = load_chosen(settings, options, lambda: load_hmr2(store, device, precision), watch)
    with watch.step("phalp"):
        encoder = AppearanceEncoder.from_state(read_tensors(store, "appearance")).to(device)
        predictor = load_pose_predictor(store, device)
    converted = read_store(store)["models"]  # with the hashes of the files when they were written
    own_hmr2 = settings.body_regressor == HMR2
    return assemble(
        detector=detector,
        regressor=regressor,
        encoder=encoder,
        predictor=predictor,
        body=load_smpl(store, device),
        uv_map=load_uv_map(store),
        device=device,
        max_crops=settings.max_batch_crops,
        watch=watch,
        description=ModelsDescription(
            models="official",
            engine="native",
            detector=Path(settings.detector).name,
            backbone="vit" if own_hmr2 else settings.body_regressor,
            body_model="smpl",
            precision=precision,
            device=device_name(device),
            files=tuple(
                ModelFile(role=role, name=name, sha256=facts["sha256"])
                for role in converted
                if role != HMR2 or own_hmr2
                for name, facts in converted[role]["files"].items()
                if name.endswith(".safetensors")
            ),
            notice=SMPL_NOTICE + (BF16_NOTICE if precision == "bf16" else ""),
        ),
    )


def load_chosen(
    settings: ModelSettings, options: LoadOptions, hmr2: Callable[[], BodyRegressor], watch: Stopwatch
) -> tuple[BodyRegressor, Detector]:
    """The body regressor that the settings name, `hmr2` by default, and the detector of `options`."""
    with watch.step("hmr2"):
        own = settings.body_regressor
        regressor = hmr2() if own == HMR2 else load_regressor(replace(options, name=own))
    with watch.step("detector"):
        return regressor, load_detector(options)


def load_uv_map(store: Path) -> UvMap:
    """SMPL's UV map out of the store."""
    maps = read_tensors(store, "uv_map")
    return UvMap(barycentric=maps["bmap"].numpy(), face_index=maps["fmap"].numpy())


def device_name(device: torch.device) -> str:
    """`cpu`, or what the GPU calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def assemble(
    *,
    detector: Detector,
    regressor: BodyRegressor,
    body: Smpl,
    uv_map: UvMap,
    encoder: AppearanceEncoder,
    predictor: PoseTransformer,
    description: ModelsDescription,
    device: torch.device,
    max_crops: int,
    watch: Stopwatch,
) -> LoadedModels:
    """Networks, all on `device`, become the models of a worker.

    To `description` the files of detector and regressor are added; `max_crops` are most people in one batch.
    """
    files = [
        ModelFile(role=role, name=name, sha256=sha256_of(path))
        for role, weights in (("detector", detector.weights), ("body regressor", regressor.weights))
        for name, path in weights.items()
    ]
    perception = NativePerception(
        detector=detector,
        bodies=BodyEstimator(regressor, body, largest_batch=max_crops),
        sampler=TextureSampler(uv_map=uv_map, faces=body.faces, device=device),
        device=device,
        max_crops=max_crops,
    )
    return LoadedModels(
        perception=perception,
        texture=UvTextureModel(encoder),
        pose_predictor=TransformerPosePredictor(predictor, device),
        body=SmplBody(body),
        description=replace(description, files=(*description.files, *files)),
        device=device,
        seconds=watch.seconds,
    )


def warm_up(models: LoadedModels, *, num_frames: int) -> None:
    """Do once what jobs do on blank input, in batches of `num_frames`, tracking and bodies included."""
    textures = models.perception.warm_up(num_frames)
    mixed = models.texture.mix(models.texture.copy(textures[0]), textures[-1], 1.0)
    for num_pairs in {1, PAIRS_AT_ONCE[models.device.type]}:
        pairs = np.array([[0, index % len(textures)] for index in range(num_pairs)])
        models.texture.distance([mixed], textures, pairs)
    for num_tracks in WARM_UP_TRACKS:
        poses = np.zeros((num_tracks, 7, 229), np.float32)
        times = np.tile(np.arange(7), (num_tracks, 1))
        models.pose_predictor.predict_next(poses, times, np.zeros(num_tracks, np.int64))
    identity = np.tile(np.eye(3, dtype=np.float32), (1, 24, 1, 1))
    models.body.joints(identity[:, :1], identity[:, 1:], np.zeros((1, 10), np.float32))
