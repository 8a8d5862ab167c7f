"""The official packages through this engine: the official run, our own engine's numbers, a job of their own.

Skipped, with the reason, where the packages cannot be imported.
"""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import RfDetrForInstanceSegmentation

from benchmarks.moving_people import MovingPeople
from handler.fitness import check_models
from handler.job import TrackingOptions
from handler.people.perceive import place
from handler.people.track import follow, track, tracker_options
from handler.records import PeopleInFrame, TrackedFrame
from model_cache.interfaces import Models, PerceptionOptions, TrackerOptions
from model_cache.load import load
from model_cache.settings import ModelSettings
from model_cache.upstream.shims import on_device
from tests.handler.results.factories import make_info
from tests.model_cache.rf_detr_network import tiny_config

# The official code leans on defaults and names that torch, numpy and scipy have deprecated.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

QUIRKS = TrackingOptions(upstream_quirks=True)
TOLERANCES = {  # between the two engines: float32 in another order
    "cam_t": 1e-3,
    "crop_cam": 2e-5,
    "joints_3d": 2e-5,
    "joints_2d": 2e-5,
    "smpl_joints_3d": 2e-5,
    "rotations": 2e-5,
    "betas": 2e-5,
    "center_px": 1e-4,
    "poses": 1e-3,
}


def perceived(models: Any, images: list[np.ndarray]) -> Iterator[PeopleInFrame]:
    """The measured people of each image."""
    for index, image in enumerate(images):
        found = models.perception.perceive([image], [index], PerceptionOptions(masks=True))
        height, width = image.shape[:2]
        info = make_info(index, width=width, height=height)
        yield PeopleInFrame(info=info, people=place(found[0], width, height))


def tracked_by(models: Any, images: list[np.ndarray]) -> list[TrackedFrame]:
    """The tracked people of each image, as a job would have them."""
    people = perceived(models, images)
    tracker = models.begin_tracking(tracker_options(QUIRKS))
    if tracker is not None:
        return list(follow(people, tracker, QUIRKS.n_init))
    return list(track(people, models.texture, models.pose_predictor, QUIRKS))


def assert_same(official: list[TrackedFrame], ours: list[TrackedFrame]) -> None:
    """Same identities, states and order; numbers within the tolerances."""
    assert len(official) == len(ours)
    for theirs, own in zip(official, ours, strict=True):
        assert theirs.num_detected == own.num_detected
        assert theirs.people.mask_rle == own.people.mask_rle
        for name in ("track_ids", "frames_since_seen", "detection_index", "bbox_xyxy"):
            np.testing.assert_array_equal(getattr(theirs.people, name), getattr(own.people, name))
        for name, tolerance in TOLERANCES.items():
            a, b = getattr(theirs.people, name), getattr(own.people, name)
            np.testing.assert_allclose(a, b, atol=tolerance)
        np.testing.assert_allclose(theirs.people.locations, own.people.locations, rtol=1e-3, atol=1e-3)


AUDITED = """
import sys

def refuse(event, arguments):
    what = " ".join(map(str, arguments))
    if event in ("socket.connect", "socket.getaddrinfo", "os.system"):
        raise RuntimeError(f"{event} {what}")
    if event == "subprocess.Popen" and any(tool in what for tool in ("wget", "curl", "git", "tar")):
        raise RuntimeError(f"{event} {what}")
    if event == "ctypes.dlopen" and any(library in what for library in ("EGL", "libGL", "OSMesa")):
        raise RuntimeError(f"{event} {what}")

sys.addaudithook(refuse)
from pathlib import Path
import torch
from benchmarks.side_by_side_engines import Weights, load_official
cache, store = map(Path, sys.argv[1:])
load_official(Weights(cache=cache, store=store, converted=store, kind=""), {}, torch.device("cpu"))
print([name for name in sys.modules if name.partition(".")[0] in ("OpenGL", "pyrender", "pytube", "pyglet")])
"""


def test_import_and_loading_open_no_connection_and_no_display(official, weights):
    """In a process that refuses connections, downloads, shells and EGL the engine is built all the same."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AUDITED, str(weights.cache), str(weights.store)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_it_is_the_official_run(upstream, golden, e2e_detections):
    """Matches, track ids and costs of the 20-frame golden run come out of the official code as recorded."""
    data = golden("e2e")
    models = upstream(e2e_detections)
    tracker = models.begin_tracking(TrackerOptions())
    assert isinstance(models, Models)
    for index, frame in enumerate(perceived(models, list(data["frames"]))):
        tracker.update(frame.people.textures, index, shot=False)
        last = tracker.last

        assert last.ids == data[f"f{index:02d}_ids_before"].tolist()
        assert [list(match) for match in last.matches] == data[f"f{index:02d}_matches"].tolist()
        cost = data[f"f{index:02d}_cost"]
        if cost.ndim:
            np.testing.assert_allclose(last.cost, cost, rtol=0.03)


def test_both_engines_give_the_same_records_of_the_official_run(upstream, native, golden, e2e_detections):
    """The golden run's frames hold the same people with the same numbers through both engines."""
    images = list(golden("e2e")["frames"])

    assert_same(tracked_by(upstream(e2e_detections), images), tracked_by(native(e2e_detections), images))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_both_engines_agree_on_a_longer_clip(upstream, native):
    """70 frames in which one of two people is lost and found again, twice: same identities and numbers."""
    clip = MovingPeople(70, num_people=2)
    images = [clip.frame(index) for index in clip]

    official = tracked_by(upstream(clip), images)

    assert_same(official, tracked_by(native(clip), images))
    assert any((~frame.people.measured).any() for frame in official)


def test_identities_start_at_one_in_each_job(upstream):
    """A job after another gets the identities of a fresh process."""
    clip = MovingPeople(6, num_people=1)
    images = [clip.frame(index) for index in clip]
    models = upstream(clip)

    first, second = (tracked_by(models, images) for _ in range(2))

    ids = [frame.people.track_ids.tolist() for frame in first]
    assert ids == [frame.people.track_ids.tolist() for frame in second]
    assert ids[0] == [1]


def test_a_gap_longer_than_the_predictor_does_not_end_the_run(upstream):
    """The official predictor dies of a history that spans 125 frames; here its last slot is shared."""
    model = upstream({}).model
    poses = np.random.default_rng(0).normal(0, 0.3, (2, 7, 229)).astype(np.float32)

    def predicted(newest: int) -> torch.Tensor:
        times = np.array([[0, 1, 2, 3, 4, 5, newest], [0, 1, 2, 3, 4, 5, 6]])
        with on_device(torch.device("cpu")):
            return model.forward_for_tracking([poses, np.zeros((2, 7, 6)), times], "P", np.zeros(2, np.int64))

    assert torch.equal(predicted(300), predicted(124))


def test_the_settings_load_it(official, weights, tmp_path):
    """ENGINE=upstream with our detector: warm, fit for jobs, and in results named without its path."""
    (tmp_path / "official").symlink_to(weights.cache)
    RfDetrForInstanceSegmentation(tiny_config()).save_pretrained(tmp_path / "detector")
    settings = ModelSettings(
        engine="upstream",
        upstream_detector="native",
        detector=str(tmp_path / "detector"),
        model_store=tmp_path,
        model_device="cpu",
        model_threads=1,
    )
    stdout = sys.stdout

    models = load(settings)

    assert sys.stdout is stdout  # phalp puts the process's first one there
    check_models(models)
    assert (models.description.engine, models.description.detector) == ("upstream", "detector")
    assert "rasteriser" in models.description.notice
    assert len(models.description.files) == 10
