"""The official run of 20 frames, number for number: frames in, tracked people out, through every network.

Perception with the goldens' tiny networks, PHALP's tracker with its own texture encoder and pose predictor,
on the official run's detections.
"""

import runpy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from handler.job import Options, TrackingOptions
from handler.people.association import Association
from handler.people.perceive import place
from handler.people.track import FrameDelay, track
from handler.people.tracker import Tracker
from handler.records import PeopleInFrame, TrackedFrame, location_vectors, phalp_joints_3d
from handler.results.write import write
from model_cache.interfaces import PerceptionOptions
from model_cache.load import Stopwatch, assemble, load_uv_map
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.detector import ReplayDetector
from model_cache.store.load import load_body, load_hmr2, load_pose_predictor, read_tensors
from tests.fakes import DESCRIPTION
from tests.goldens import golden_detections
from tests.handler.results.factories import make_info

HEIGHT, WIDTH = 480, 854
SMPL = ("global_orient", "body_pose", "betas")
QUIRKS = TrackingOptions(upstream_quirks=True)


@pytest.fixture(scope="module")
def models(official_tiny_store):
    """The goldens' networks behind the promises, with the official run's detections."""
    return assemble(
        detector=ReplayDetector(golden_detections()),
        regressor=load_hmr2(official_tiny_store),
        body=load_body(official_tiny_store / "smpl.safetensors"),
        uv_map=load_uv_map(official_tiny_store),
        encoder=AppearanceEncoder.from_state(read_tensors(official_tiny_store, "appearance")),
        predictor=load_pose_predictor(official_tiny_store),
        description=DESCRIPTION,
        device=torch.device("cpu"),
        max_crops=32,
        watch=Stopwatch(),
    )


@pytest.fixture(scope="module")
def people(models, golden) -> list[PeopleInFrame]:
    """The measured people of each frame."""
    images, found = list(golden("e2e")["frames"]), []
    for start in range(0, len(images), 8):
        batch = images[start : start + 8]
        indices = range(start, start + len(batch))
        found += models.perception.perceive(batch, indices, PerceptionOptions(masks=True))
    return [
        PeopleInFrame(info=make_info(index, width=WIDTH, height=HEIGHT), people=place(people, WIDTH, HEIGHT))
        for index, people in enumerate(found)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The tracker at a frame: ids before it, what was matched, [id, state, hits, age, missed] after it."""

    ids_before: list[int]
    association: Association
    table: list[list[int]]


@pytest.fixture(scope="module")
def run(models, people) -> tuple[list[Step], list[TrackedFrame]]:
    """One run over all frames, as `track` makes it, with a look at each step; textures take their time."""
    tracker, delay = Tracker(models.texture, models.pose_predictor, QUIRKS), FrameDelay(QUIRKS.n_init)
    steps, frames = [], []
    for frame in people:
        ids_before = [t.track_id for t in tracker.tracks]
        states = tracker.update(frame)
        table = [
            [t.track_id, 2 if t.confirmed else 1, t.hits, t.age, t.time_since_update] for t in tracker.tracks
        ]
        steps.append(Step(ids_before=ids_before, association=tracker.last, table=table))
        frames += delay.add(frame, states)
    return steps, [*frames, *delay.flush()]


def test_cameras_and_joints_are_the_official_ones(people, golden):
    """Location vectors of all people: 2-D joints within 2e-6, camera x and y within 1e-5, z within 1e-3."""
    expected = golden("e2e")["feat_loca"]
    found = np.concatenate([location_vectors(frame.people) for frame in people])

    np.testing.assert_allclose(found[:, :90], expected[:, :90], atol=2e-6)
    np.testing.assert_allclose(found[:, 90:92], expected[:, 90:92], atol=1e-5)
    np.testing.assert_allclose(found[:, 92], expected[:, 92], atol=1e-3)


def test_matches_and_costs_are_the_official_ones(run, golden):
    """Each frame's matches and track table are exact, its costs below the threshold within 3 %."""
    data = golden("e2e")
    for index, step in enumerate(run[0]):
        assert data[f"f{index:02d}_ids_before"].tolist() == step.ids_before
        assert data[f"f{index:02d}_matches"].tolist() == step.association.matches.tolist()
        assert data[f"f{index:02d}_track_table"].tolist() == step.table
        cost = data[f"f{index:02d}_cost"]
        if cost.ndim:
            assert np.array_equal(cost <= 100, step.association.cost <= 100)
            np.testing.assert_allclose(step.association.cost, cost, rtol=0.03)


def test_the_frames_hold_the_official_people(run, golden):
    """Identities, states, order, boxes, masks, poses and cameras of every frame are the official output's."""
    data, expected_frames = golden("e2e"), golden("e2e_output.json")
    frames = expected_frames if isinstance(expected_frames, list) else list(expected_frames.values())
    for index, (expected, frame) in enumerate(zip(frames, run[1], strict=True)):
        people = frame.people

        assert expected["tid"] == people.track_ids.tolist()
        assert expected["tracked_time"] == people.frames_since_seen.tolist()
        assert expected["tracked_ids"] == people.track_ids[people.measured].tolist()
        assert expected["extra_data"] == people.detection_index.tolist()
        assert expected["mask"] == list(people.mask_rle)
        assert expected["conf"] == pytest.approx(people.scores.tolist(), abs=1e-6)
        assert expected["scale"] == pytest.approx((people.scale_px / WIDTH).tolist(), abs=1e-6)
        if not len(people):
            continue
        golden_of = lambda name, i=index: data[f"f{i:02d}_{name}"]  # noqa: E731 - a key, shortened
        boxes = people.bbox_xyxy
        np.testing.assert_array_equal(boxes[:, :2], golden_of("bbox")[:, :2])
        np.testing.assert_array_equal(boxes[:, 2:] - boxes[:, :2], golden_of("bbox")[:, 2:])
        for name, found, tolerance in (
            ("camera", people.cam_t, 1e-3),
            ("camera_bbox", people.crop_cam, 2e-5),
            ("3d_joints", phalp_joints_3d(people), 2e-5),
            ("2d_joints", people.joints_2d, 2e-5),
            ("center", people.center_px, 1e-4),
            ("global_orient", people.global_orient, 2e-5),
            ("body_pose", people.body_pose, 2e-5),
            ("betas", people.betas, 2e-5),
        ):
            np.testing.assert_allclose(found.reshape(golden_of(name).shape), golden_of(name), atol=tolerance)


def test_the_example_gives_the_official_dictionary(run, models, golden, tmp_path):
    """What as_phalp.py reads from our lines is what PHALP saved, but for the keys that docs/18 names."""
    program = runpy.run_path(str(Path(__file__).parents[2] / "examples/as_phalp.py"))
    options = Options(profile="full", masks=True)
    write(iter(run[1]), options=options, body=models.body, into=tmp_path)
    results = program["phalp_results"](tmp_path / "frames.jsonl.gz")

    data, official = golden("e2e"), golden("e2e_output.json")
    assert [f"img/{name}" for name in results] == list(official)
    for index, (expected, entry) in enumerate(zip(official.values(), results.values(), strict=True)):
        assert set(expected["keys"]) - set(entry) == {"appe", "loca", "pose", "img_path", "img_name"}
        for key in ("time", "shot", "tid", "tracked_ids", "tracked_time", "extra_data", "size", "class_name"):
            assert entry[key] == expected[key]
        assert [[mask["counts"], mask["size"]] for (mask,) in entry["mask"]] == [
            list(pair) for pair in zip(expected["mask"], expected["mask_size"], strict=True)
        ]
        arrays = {**entry, **{part: [smpl[part] for smpl in entry["smpl"]] for part in SMPL}}
        for name in (
            ("bbox", "camera_bbox", "3d_joints", "2d_joints", "center", *SMPL) if entry["tid"] else ()
        ):
            wanted = data[f"f{index:02d}_{name}"]
            np.testing.assert_allclose(np.array(arrays[name]), wanted, atol=1e-4)
            assert np.array(arrays[name]).dtype == wanted.dtype


def test_a_second_job_is_not_touched_by_the_first(models, people, run):
    """The same people after another job get the same identities again: they start at 1."""
    again = list(track(iter(people[:10]), models.texture, models.pose_predictor, QUIRKS))

    assert len(again) == 10
    for one, other in list(zip(run[1], again, strict=False))[: 10 - QUIRKS.n_init]:  # the rest lacks a future
        assert one.people.track_ids.tolist() == other.people.track_ids.tolist()
