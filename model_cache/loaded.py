"""The loaded networks of a worker, put together and warmed up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import structlog
import torch

from model_cache.interfaces import (
    BodyModel,
    FrameTracker,
    ModelFile,
    ModelsDescription,
    PosePredictor,
    TextureModel,
    TrackerOptions,
)
from model_cache.networks.appearance import PAIRS_AT_ONCE, AppearanceEncoder, UvTextureModel
from model_cache.networks.detector import Detector
from model_cache.networks.hmr2 import BodyEstimator, BodyRegressor
from model_cache.networks.pose_predictor import TransformerPosePredictor
from model_cache.networks.pose_transformer import PoseTransformer
from model_cache.networks.smpl import Smpl, SmplBody
from model_cache.networks.texture import TextureSampler, UvMap
from model_cache.perception import NativePerception
from model_cache.store.files import sha256_of

WARM_UP_TRACKS = (1, 4)  # with a single one, torch takes other ways than with several

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsOnDevice:
    """All of `Models` but perception, whichever engine it is.

    Attributes:
        texture, pose_predictor, body, description: see `interfaces`.
        device: where they are.
        seconds: how long each step of loading took.
    """

    texture: TextureModel
    pose_predictor: PosePredictor
    body: BodyModel
    description: ModelsDescription
    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def most_frames(self) -> int | None:
        """Our own perception takes any number."""
        return None

    def begin_tracking(self, options: TrackerOptions) -> FrameTracker | None:
        """None: people are tracked by the worker."""
        return None

    def clear_cache(self) -> None:
        """Give unused device memory back."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def peak_device_bytes(self) -> int | None:
        """Most device memory held since the last call; None without a GPU."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModels(PartsOnDevice):
    """`Models` by our own inference.

    Attributes:
        perception: see `interfaces`.
    """

    perception: NativePerception


def device_name(device: torch.device) -> str:
    """`cpu`, or what the GPU calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


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
    """Networks on one device become the models of a worker.

    Args:
        detector: finds people.
        regressor: crops to SMPL parameters.
        body: what they pose.
        uv_map: which texel shows which point of the body.
        encoder: textures to appearance vectors.
        predictor: PHALP's pose transformer.
        description: what results will say about them; the files of detector and regressor are added.
        device: where all of them are already.
        max_crops: most people in one batch of crops.
        watch: goes on counting.
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
    """Do once what jobs do on blank input: perception, texture costs and mixing, pose prediction, bodies.

    Args:
        models: just loaded.
        num_frames: frames in the batches that jobs will send.
    """
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
