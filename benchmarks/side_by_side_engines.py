"""Both engines with the same weights and detections, their stages timed.

The official ones are timed where their own methods begin and end, so that what this project does around them
is in no stage; ours at the promises' parts.
"""

import contextlib
import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import model_cache.perception
from benchmarks.side_by_side_weights import Weights
from handler.job import TrackingOptions
from handler.people.perceive import place
from handler.people.track import tracker_options
from handler.people.tracker import Tracker
from handler.records import PeopleInFrame, PlacedPeople
from model_cache.interfaces import PerceptionOptions, TrackState
from model_cache.load import LoadedModels, Stopwatch, assemble, load_uv_map
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.detector import Detections, ReplayDetector
from model_cache.settings import ModelSettings
from model_cache.store.load import load_body, load_hmr2, load_pose_predictor, read_tensors
from model_cache.upstream.load import UpstreamModels, assemble_upstream
from model_cache.upstream.networks import read_official
from model_cache.upstream.perception import ReplacedDetector
from model_cache.upstream.shims import import_official
from tests.fakes import DESCRIPTION
from tests.handler.results.factories import make_info

QUIRKS = TrackingOptions(upstream_quirks=True)


@dataclass(slots=True, kw_only=True)
class Run:
    """What one engine did with a clip.

    Attributes:
        people: the measured people of each frame.
        costs: of each frame.
        ids: of each frame, the tracks before it.
        matches: (track, detection) pairs of each frame.
        lost: of each frame, what was expected of the tracks that were not seen in it, by identity.
        parts: the seconds of each part of the clip by stage, without what it called of other stages.
    """

    people: list[PlacedPeople] = field(default_factory=list)
    costs: list[np.ndarray] = field(default_factory=list)
    ids: list[list[int]] = field(default_factory=list)
    matches: list[list[tuple[int, int]]] = field(default_factory=list)
    lost: list[dict[int, TrackState]] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)

    def note(
        self,
        frame: PeopleInFrame,
        cost: np.ndarray,
        ids: list[int],
        matches: list[tuple[int, int]],
        lost: dict[int, TrackState],
    ) -> None:
        """Add what came out of a frame."""
        self.people.append(frame.people)
        self.costs.append(cost)
        self.ids.append(ids)
        self.matches.append(matches)
        self.lost.append(lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One engine on its way through a clip.

    Attributes:
        run: what came out so far.
        advance: takes the next images, and the index of the first.
    """

    run: Run
    advance: Callable[[list[np.ndarray], int], None]


class Spans:
    """Seconds of named stages, each without those inside it: CPU time on a CPU, wall time on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._on_gpu = device.type == "cuda"
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Time the block under this name."""
        self._switch()
        self._open.append(name)
        try:
            yield
        finally:
            self._switch()
            self._open.pop()

    def wrap(self, owner: Any, method: str, name: str, *, part_of: str | None = None) -> None:
        """Time every call of an object's method, unless it is made inside of the stage `part_of`."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            inside = part_of is not None and part_of in self._open
            with nullcontext() if inside else self.span(name):
                return original(*args, **kwargs)

        object.__setattr__(owner, method, timed)

    def take(self) -> dict[str, float]:
        """The seconds of each stage since the last call."""
        seconds, self._seconds = self._seconds, defaultdict(float)
        return dict(seconds)

    def _switch(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()
        now = time.perf_counter() if self._on_gpu else time.process_time()
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now


def load_native(weights: Weights, detections: Mapping[int, Detections], device: torch.device) -> LoadedModels:
    """Our engine in float32."""
    store = weights.converted
    return assemble(
        detector=ReplayDetector(detections),
        regressor=load_hmr2(store, device),
        body=load_body(store / "smpl.safetensors", device),
        uv_map=load_uv_map(store),
        encoder=AppearanceEncoder.from_state(read_tensors(store, "appearance")).to(device),
        predictor=load_pose_predictor(store, device),
        description=DESCRIPTION,
        device=device,
        max_crops=32,
        watch=Stopwatch(),
    )


def load_official(
    weights: Weights, detections: Mapping[int, Detections], device: torch.device
) -> UpstreamModels:
    """The official engine, by the settings; its detector is replaced by these detections.

    Raises:
        EngineMissing: the packages are not importable here.
    """
    official = import_official(ModelSettings().upstream_script, with_detectron=False)
    with contextlib.redirect_stdout(io.StringIO()):  # its libraries print
        return assemble_upstream(
            official,
            read_official(weights.store, [weights.cache]),
            ReplacedDetector(ReplayDetector(detections)),
            detector_name="replay",
            device=device,
            watch=Stopwatch(),
        )


def official_side(models: UpstreamModels, device: torch.device) -> Side:
    """The official engine, a frame at a time."""
    run, spans = Run(), Spans(device)
    model = models.model
    spans.wrap(model, "get_croped_image", "crops and mask codes")
    spans.wrap(model.HMAR, "forward", "texture maps")
    spans.wrap(model.HMAR.model, "forward", "HMR2")
    for method in ("get_detections", "get_human_features"):
        spans.wrap(model, method, "cameras, joints, records")  # apart from the stages inside them
    spans.wrap(model.HMAR, "autoencoder_hmar", "appearance vectors", part_of="texture comparison")
    spans.wrap(model, "get_uv_distance", "texture comparison")
    spans.wrap(model.pose_predictor, "predict_next", "pose prediction")
    tracker = models.begin_tracking(tracker_options(QUIRKS))

    def advance(images: list[np.ndarray], start: int) -> None:
        for index, image in enumerate(images, start):
            people = _measured(models, [image], index)[0]
            with spans.span("association and prediction of places"):
                states = tracker.update(people.people.textures or (), index, shot=False)
            last = tracker.last
            run.note(people, last.cost, last.ids, last.matches, _lost(states))
        run.parts.append(spans.take())

    return Side(run=run, advance=advance)


def our_side(models: LoadedModels, device: torch.device) -> Side:
    """Our engine, all frames of a part in one batch."""
    run, spans = Run(), Spans(device)
    perception = models.perception
    spans.wrap(perception, "_crop", "crops and mask codes")
    spans.wrap(model_cache.perception, "encode_mask", "crops and mask codes")
    spans.wrap(perception, "_bodies", "HMR2")
    spans.wrap(perception._sampler, "sample", "texture maps")
    spans.wrap(models.texture, "distance", "texture comparison")
    spans.wrap(models.pose_predictor, "predict_next", "pose prediction")
    tracker = Tracker(models.texture, models.pose_predictor, QUIRKS)

    def advance(images: list[np.ndarray], start: int) -> None:
        with spans.span("cameras, joints, records"):
            frames = _measured(models, images, start)
        for people in frames:
            ids = [track.track_id for track in tracker.tracks]
            with spans.span("association and prediction of places"):
                states = tracker.update(people)
            association = tracker.last
            matches = [(track, detection) for track, detection in association.matches.tolist()]
            run.note(people, association.cost, ids, matches, _lost(states))
        run.parts.append(spans.take())

    return Side(run=run, advance=advance)


def _measured(models: Any, images: list[np.ndarray], start: int) -> list[PeopleInFrame]:
    indices = list(range(start, start + len(images)))
    found = models.perception.perceive(images, indices, PerceptionOptions(masks=True))
    frames = []
    for index, image, people in zip(indices, images, found, strict=True):
        height, width = image.shape[:2]
        info = make_info(index, width=width, height=height)
        frames.append(PeopleInFrame(info=info, people=place(people, width, height)))
    return frames


def _lost(states: Sequence[TrackState]) -> dict[int, TrackState]:
    """What was expected of those who were not seen, by identity."""
    return {state.track_id: state for state in states if state.detection is None}
