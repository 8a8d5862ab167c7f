"""One way through a clip in a process of its own, its memory as JSON; started by `benchmarks.side_by_side`.

`track` is the official loop as it is, drawing included as far as it keeps data (the renderer itself needs EGL
and is left out): what it collects about every frame is what grows.
"""

import ctypes
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.moving_people import MovingPeople
from benchmarks.side_by_side_engines import QUIRKS, load_native, load_official
from benchmarks.side_by_side_weights import Weights
from handler.people.perceive import perceive
from handler.people.track import follow, track, tracker_options
from handler.records import Frame, PeopleInFrame
from model_cache.interfaces import PerceptionOptions
from model_cache.networks.detector import ReplayDetector
from model_cache.upstream.perception import ReplacedDetector
from model_cache.upstream.shims import on_device
from tests.handler.results.factories import make_info

BATCH = 8
TELL_EVERY = 100  # frames
MALLINFO2 = (  # glibc's names
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class _MallInfo(ctypes.Structure):
    """glibc's account of its heap; `hblkhd` is what lies outside of it."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in MALLINFO2)


class Gauge:
    """The clip's frames, with the process's memory noted before each.

    Attributes:
        resident: bytes that the process holds.
        allocated: bytes of them that arrays and tensors are in; the rest is what freed ones left.
    """

    def __init__(self, clip: MovingPeople) -> None:
        self._clip = clip
        self._mallinfo = ctypes.CDLL(None).mallinfo2
        self._mallinfo.restype = _MallInfo
        self.resident: list[int] = []
        self.allocated: list[int] = []

    def frame(self, index: int) -> np.ndarray:
        """The picture of a frame; nothing is collected before, since the engines do not do so either."""
        self.resident.append(psutil.Process().memory_info().rss)
        info = self._mallinfo()
        self.allocated.append(info.uordblks + info.hblkhd)
        if index and index % TELL_EVERY == 0:
            sizes = [value[-1] >> 20 for value in (self.resident, self.allocated)]
            print(f"{index} of {len(self._clip)} frames, MiB: {sizes}", file=sys.stderr, flush=True)
        return self._clip.frame(index)

    def frames(self) -> Iterator[Frame]:
        """The same as the job's records."""
        for index in self._clip:
            picture = self.frame(index)
            height, width = picture.shape[:2]
            info = make_info(index, width=width, height=height)
            yield Frame(info=info, image_bgr=picture)


def main() -> None:
    """Run one way and print what it took."""
    way, length, cache, store, converted, device_name, people = sys.argv[1:]
    weights = Weights(cache=Path(cache), store=Path(store), converted=Path(converted), kind="")
    device, clip = torch.device(device_name), MovingPeople(int(length), int(people))
    warnings.simplefilter("ignore")
    gauge = Gauge(clip)
    with redirect_stdout(sys.stderr):  # the official loop draws a bar
        if way == "ours":
            _go(load_native(weights, clip, device), gauge, BATCH)
        else:
            models = load_official(weights, clip, device)
            _go(models, gauge, 1) if way == "upstream" else _official_track(models.model, gauge, clip)
    most = torch.cuda.max_memory_reserved() if device.type == "cuda" else None
    print(json.dumps({"resident": gauge.resident, "allocated": gauge.allocated, "device": most}))


def _go(models: Any, gauge: Gauge, batch: int) -> None:
    """A job's flow, without files."""
    batches = perceive(
        gauge.frames(),
        models.perception,
        PerceptionOptions(masks=True),
        batch_frames=batch,
        clear_cache=models.clear_cache,
        clear_every_frames=1,
    )
    people: Iterator[PeopleInFrame] = (frame for frames in batches for frame in frames)
    tracker = models.begin_tracking(tracker_options(QUIRKS))
    if tracker is not None:
        tracked = follow(people, tracker, QUIRKS.n_init)
    else:
        tracked = track(people, models.texture, models.pose_predictor, QUIRKS)
    for _ in tracked:
        pass


def _official_track(model: Any, gauge: Gauge, clip: MovingPeople) -> None:
    """PHALP's `track()` with its default of recording for the renderer, frames and detections given."""
    detect, replayed = model.get_detections, ReplacedDetector(ReplayDetector(clip))

    def get_detections(image: np.ndarray, name: str, time: int, *rest: Any) -> Any:
        model.detector = lambda picture: replayed(picture, time)
        return detect(image, name, time, *rest)

    model.get_detections = get_detections
    names = [f"{index:06d}.jpg" for index in range(len(clip))]
    model.io_manager = SimpleNamespace(
        get_frames_from_source=lambda: {"list_of_frames": names, "additional_data": {}, "video_name": "clip"},
        read_frame=lambda name: gauge.frame(int(name[:6])),
        save_video=lambda *args, **kwargs: None,
        close_video=lambda: None,
    )
    model.visualizer = SimpleNamespace(
        reset_render=lambda size: None, render_video=lambda record: (None, (0, 0))
    )
    model.cfg.render.enable = True
    with tempfile.TemporaryDirectory() as folder, on_device(model.device):
        model.cfg.video.output_dir = folder
        if model.track() is None:
            raise SystemExit("the official track() failed; its message is above")


if __name__ == "__main__":
    main()
