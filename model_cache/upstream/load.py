"""The official engine put together from its packages and files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_cache.errors import EngineMissing, ModelOutputInvalid
from model_cache.interfaces import ModelsDescription, PerceptionOptions, TrackerOptions
from model_cache.load import SMPL_NOTICE, PartsOnDevice, Stopwatch, device_name
from model_cache.networks.detector import Detections, ReplayDetector, load_detector
from model_cache.networks.smpl import Smpl, SmplBody
from model_cache.registry import HMR2
from model_cache.settings import ModelSettings
from model_cache.upstream.networks import OfficialWeights, build_tracking_model, read_official
from model_cache.upstream.perception import (
    FrameDetector,
    ReplacedDetector,
    UpstreamPerception,
    official_detector,
)
from model_cache.upstream.shims import Official, OwnDepth, import_official
from model_cache.upstream.tracking import UpstreamTracker, job_settings, official_tracker

OWN_DEPTH_NOTICE = "Depth maps for textures were drawn by this project's rasteriser, not by neural_renderer."
WARM_UP_SIZE = (256, 256)  # height, width of the frame with one made-up person


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamModels(PartsOnDevice):
    """`Models` by the official packages.

    Attributes:
        perception: see `interfaces`.
        official: the packages.
        model: `HMR2_4dhuman` with its networks.
    """

    perception: UpstreamPerception
    official: Official
    model: Any
    texture: Any = None  # PHALP's tracker compares textures and predicts poses itself
    pose_predictor: Any = None

    @property
    def most_frames(self) -> int | None:
        """PHALP perceives and tracks frame by frame."""
        return 1

    def begin_tracking(self, options: TrackerOptions) -> UpstreamTracker:
        """PHALP's own tracker for one job."""
        config = job_settings(self.model.cfg, options)
        return UpstreamTracker(official_tracker(self.official, self.model, config), config, self.device)


def load_upstream(settings: ModelSettings, device: torch.device, watch: Stopwatch) -> UpstreamModels:
    """The official packages with the official weights, warmed up.

    Raises:
        EngineMissing: a package is missing or cannot be imported, or the settings ask for what it has not.
        WeightsMissing: official files are neither in the store nor in `~/.cache`.
        WeightsInvalid: a file is not what it should be.
    """
    if settings.models == "lite":
        raise EngineMissing("ENGINE=upstream runs the official models only: set MODELS=official or auto")
    if settings.body_regressor != HMR2:
        raise EngineMissing("ENGINE=upstream runs HMR2 only: leave BODY_REGRESSOR out")
    kind, store = settings.upstream_detector, settings.model_store
    with watch.step("packages"):
        official = import_official(settings.upstream_script, with_detectron=kind != "native")
    with watch.step("weights"):
        weights = read_official(store)
    with watch.step("detector"):
        if kind == "native":
            name = Path(settings.detector).name
            options = settings.load_options(settings.detector, str(device))
            detector: FrameDetector = ReplacedDetector(load_detector(options), device)
        else:
            name = kind
            detector = official_detector(official, kind, settings.upstream_detector_weights, store, device)
    models = assemble_upstream(official, weights, detector, detector_name=name, device=device, watch=watch)
    with watch.step("warm_up"):
        warm_up(models)
    return models


def assemble_upstream(
    official: Official,
    weights: OfficialWeights,
    detector: FrameDetector,
    *,
    detector_name: str,
    device: torch.device,
    watch: Stopwatch,
) -> UpstreamModels:
    """The engine around a detector; see `load_upstream`."""
    with watch.step("networks"):
        model = build_tracking_model(official, weights, device)
        body = SmplBody(Smpl(weights.body).to(device))
    own_depth = isinstance(model.HMAR.neural_renderer, OwnDepth)
    return UpstreamModels(
        perception=UpstreamPerception(model=model, detector=detector, body=body, device=device),
        body=body,
        description=ModelsDescription(
            models="official",
            engine="upstream",
            detector=detector_name,
            backbone="vit",
            body_model="smpl",
            precision="fp32",
            device=device_name(device),
            files=weights.files,
            notice=f"{SMPL_NOTICE} {OWN_DEPTH_NOTICE}" if own_depth else SMPL_NOTICE,
        ),
        official=official,
        model=model,
        device=device,
        seconds=watch.seconds,
    )


def warm_up(models: UpstreamModels) -> None:
    """Run the detector on a blank frame, and every other network once on one made-up person.

    Raises:
        ModelOutputInvalid: the person got lost on the way.
    """
    blank = np.zeros((*WARM_UP_SIZE, 3), np.uint8)
    models.perception.perceive([blank], [-1], PerceptionOptions())
    person = Detections(bbox_xyxy=np.array([[64, 32, 192, 224]], np.float32), scores=np.ones(1, np.float32))
    perception = UpstreamPerception(
        model=models.model,
        detector=ReplacedDetector(ReplayDetector({0: person, 1: person}), models.device),
        body=models.body,
        device=models.device,
    )
    tracker = models.begin_tracking(TrackerOptions())
    for index in range(2):  # the second frame compares textures and predicts
        found = perception.perceive([blank], [index], PerceptionOptions())[0]
        if not tracker.update(found.textures or (), index, shot=False):
            raise ModelOutputInvalid("the official networks lost the person of the warm-up")
