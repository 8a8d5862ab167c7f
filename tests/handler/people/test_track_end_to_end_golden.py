"""Association and output of the official end-to-end run, fed with its recorded people.

The run's texture distances were not recorded; they are recovered from its costs, so this test says nothing of
them, but everything of what follows from them.
"""

import numpy as np
import pytest

from handler.job import TrackingOptions
from handler.people.association import TEXTURE_WEIGHT, cost_factors
from handler.people.track import FrameDelay
from handler.people.tracker import Tracker
from handler.records import location_vectors, pose_vectors
from model_cache.networks.crops import pad_boxes
from tests.handler.people.people_to_track import frame_of, person_of

NUM_FRAMES = 20
WIDTH, HEIGHT = 854, 480
SMALL_W, SMALL_H, MIN_SCORE = 50, 100, 0.8


class RecoveredTextures:
    """Texture distances that make the recorded costs out of the tracker's own other terms."""

    def __init__(self, data):
        self.data = data
        self.tracker = None
        self.frame = None

    def distance(self, tracks, detections, pairs):
        histories, people = self.tracker.histories, self.frame.people
        pose, place = cost_factors(
            histories.expected_poses,
            histories.expected_locations,
            pose_vectors(people),
            location_vectors(people),
        )
        cost = self.data[f"f{self.frame.info.frame_index:02d}_cost"]
        rest = (pose * place)[pairs[:, 0], pairs[:, 1]]
        cost = cost[pairs[:, 0], pairs[:, 1]]
        return np.where(cost < 100, (cost / rest - 1) / TEXTURE_WEIGHT, 1e6)

    def mix(self, track, detection, score, *, alpha=0.1):
        return detection

    def copy(self, texture):
        return texture


def _frames(data):
    """The recorded people: detections that pass the score, then the size filter."""
    first_detection = first_person = 0
    for index, num in enumerate(data["n_dets"].tolist()):
        rows = range(first_detection, first_detection + num)
        first_detection += num
        good = [row for row in rows if data["scores"][row] > np.float32(MIN_SCORE)]
        people = []
        for place, row in enumerate(good):
            x1, y1, x2, y2 = data["boxes"][row]
            if x2 - x1 < SMALL_W or y2 - y1 < SMALL_H:
                continue
            padded = pad_boxes(data["boxes"][row : row + 1])[0]
            person = person_of(
                data["feat_pose"][first_person],
                data["feat_loca"][first_person],
                bbox_xywh=np.array([x1, y1, x2 - x1, y2 - y1]),
                score=data["scores"][row],
                index=place,
                texture=object(),
                center_px=((padded[:2] + padded[2:]) / 2).astype(np.float32),
                scale_px=float((padded[2:] - padded[:2]).max()),
            )
            assert data["feat_frame"][first_person] == index
            first_person += 1
            people.append(person)
        yield frame_of(index, people, width=WIDTH, height=HEIGHT)
    assert first_person == len(data["feat_frame"])


def test_tracking_gives_the_official_end_to_end_output(golden, pose_predictor_of):
    """Costs, matches, tables, and every number of the output that the recorded people determine."""
    data, official = golden("e2e"), golden("e2e_output.json")
    textures = RecoveredTextures(data)
    tracker = textures.tracker = Tracker(
        textures, pose_predictor_of("tiny"), TrackingOptions(upstream_quirks=True)
    )
    delay, frames = FrameDelay(5), []
    for textures.frame in _frames(data):
        prefix = f"f{textures.frame.info.frame_index:02d}_"
        assert data[prefix + "ids_before"].tolist() == [one.track_id for one in tracker.tracks]
        states, association = tracker.update(textures.frame), tracker.last
        if data[prefix + "cost"].ndim:
            np.testing.assert_allclose(association.cost, data[prefix + "cost"], rtol=1e-9)
        np.testing.assert_array_equal(data[prefix + "matches"], association.matches)
        assert data[prefix + "track_table"].tolist() == [
            [one.track_id, 2 if one.confirmed else 1, one.hits, one.age, one.time_since_update]
            for one in tracker.tracks
        ]
        frames += delay.add(textures.frame, states)
    frames += delay.flush()

    assert len(frames) == NUM_FRAMES
    for frame, expected in zip(frames, official.values(), strict=True):
        _assert_same_output(frame, expected, data)


def _assert_same_output(frame, expected, data):
    prefix = f"f{frame.info.frame_index:02d}_"
    people = frame.people
    assert expected["tid"] == people.track_ids.tolist()
    assert expected["tracked_ids"] == people.track_ids[people.measured].tolist()
    assert expected["tracked_time"] == people.frames_since_seen.tolist()
    assert expected["extra_data"] == people.detection_index.tolist()
    assert expected["conf"] == pytest.approx(people.scores.tolist(), abs=1e-7)
    assert expected["scale"] == pytest.approx((people.scale_px / WIDTH).tolist(), abs=1e-7)
    if not len(people):
        return
    boxes = people.bbox_xyxy
    np.testing.assert_allclose(boxes[:, :2], data[prefix + "bbox"][:, :2])
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], data[prefix + "bbox"][:, 2:], atol=1e-4)
    np.testing.assert_allclose(people.center_px, data[prefix + "center"], atol=1e-4)
    np.testing.assert_array_equal(people.cam_t, data[prefix + "camera"])
    np.testing.assert_array_equal(people.joints_2d.reshape(-1, 90), data[prefix + "2d_joints"])
    for name in ("global_orient", "body_pose", "betas"):
        np.testing.assert_array_equal(getattr(people, name), data[prefix + name])
