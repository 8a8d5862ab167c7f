"""The official run of 20 frames, number for number: frames in, tracked people out, through every network.

Perception with the goldens' tiny networks, PHALP's tracker with its own texture encoder and pose predictor,
on the official run's detections.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from handler.job import TrackingOptions
from handler.people.association import Association
from handler.people.person import people_from_image
from handler.people.timeline import Timeline
from handler.people.track import Tracker, track
from handler.records import PeopleInFrame, Person, TrackedFrame
from model_cache.interfaces import PerceptionOptions
from model_cache.load import load_uv_map
from model_cache.loaded import Stopwatch, assemble
from model_cache.networks.appearance import AppearanceEncoder
from model_cache.networks.detector import ReplayDetector
from model_cache.store.load import load_body, load_hmr2, load_pose_predictor, read_tensors
from tests.fakes import DESCRIPTION
from tests.goldens import golden_detections

HEIGHT, WIDTH = 480, 854
QUIRKS = TrackingOptions(upstream_quirks=True)
NAMES = {  # PHALP's name: ours, tolerance
    "camera": ("cam_t", 1e-3),
    "camera_bbox": ("crop_cam", 2e-5),
    "3d_joints": ("joints_3d", 2e-5),
    "2d_joints": ("joints_2d", 2e-5),
}


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
    frames = list(golden("e2e")["frames"])
    options = PerceptionOptions(masks=True, appearance=True)
    images = [
        image
        for start in range(0, len(frames), 8)
        for image in models.perception.perceive(
            frames[start : start + 8], list(range(start, min(start + 8, len(frames)))), options
        )
    ]
    return [
        PeopleInFrame(
            frame_index=index,
            source_index=index,
            pts=index,
            pts_seconds=index / 30,
            width=WIDTH,
            height=HEIGHT,
            people=people_from_image(image, WIDTH, HEIGHT),
        )
        for index, image in enumerate(images)
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
    tracker, timeline = Tracker(models.texture, models.pose_predictor, QUIRKS), Timeline(QUIRKS.n_init)
    steps, frames = [], []
    for frame in people:
        ids_before = [t.track_id for t in tracker.tracks]
        association = tracker.update(frame)
        table = [
            [t.track_id, 2 if t.confirmed else 1, t.hits, t.age, t.time_since_update] for t in tracker.tracks
        ]
        steps.append(Step(ids_before=ids_before, association=association, table=table))
        frames += timeline.add(frame, tracker.tracks)
    return steps, [*frames, *timeline.flush()]


def test_cameras_and_joints_are_the_official_ones(people, golden):
    """Location vectors of all people: 2-D joints within 2e-6, camera x and y within 1e-5, z within 1e-3."""
    expected = golden("e2e")["feat_loca"]
    found = np.stack([person.location_vector for frame in people for person in frame.people])

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
        persons: list[Person] = [p.person for p in frame.people]

        assert expected["tid"] == [p.track_id for p in frame.people]
        assert expected["tracked_time"] == [p.frames_since_seen for p in frame.people]
        assert expected["tracked_ids"] == [p.track_id for p in frame.people if p.state == "tracked"]
        assert expected["extra_data"] == [p.detection_index for p in persons]
        assert expected["mask"] == [p.mask_rle for p in persons]
        assert expected["conf"] == pytest.approx([p.score for p in persons], abs=1e-6)
        assert expected["scale"] == pytest.approx([p.scale_px / WIDTH for p in persons], abs=1e-6)
        if not persons:
            continue
        golden_of = lambda name, i=index: data[f"f{i:02d}_{name}"]  # noqa: E731 - a key, shortened
        boxes = np.stack([p.bbox_xyxy for p in persons])
        np.testing.assert_array_equal(boxes[:, :2], golden_of("bbox")[:, :2])
        np.testing.assert_array_equal(boxes[:, 2:] - boxes[:, :2], golden_of("bbox")[:, 2:])
        for name, tolerance in {
            "camera": 1e-3,
            "camera_bbox": 2e-5,
            "3d_joints": 2e-5,
            "2d_joints": 2e-5,
        }.items():
            ours = {
                "camera": "cam_t",
                "camera_bbox": "crop_cam",
                "3d_joints": "joints_3d",
                "2d_joints": "joints_2d",
            }
            found = np.stack([getattr(p, ours[name]).reshape(golden_of(name).shape[1:]) for p in persons])
            np.testing.assert_allclose(found, golden_of(name), atol=tolerance)
        np.testing.assert_allclose(np.stack([p.center_px for p in persons]), golden_of("center"), atol=1e-4)
        for name in ("global_orient", "body_pose", "betas"):
            found = np.stack([getattr(p, name) for p in persons])
            np.testing.assert_allclose(found, golden_of(name), atol=2e-5)


def test_a_second_job_is_not_touched_by_the_first(models, people, run):
    """The same people after another job get the same identities again: they start at 1."""
    again = list(track(iter(people[:10]), models.texture, models.pose_predictor, QUIRKS))

    assert len(again) == 10
    for one, other in list(zip(run[1], again, strict=False))[: 10 - QUIRKS.n_init]:  # the rest lacks a future
        assert [p.track_id for p in one.people] == [p.track_id for p in other.people]
