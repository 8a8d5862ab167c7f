"""Three recorded runs of the official tracker, frame by frame and as a whole."""

import numpy as np
import pytest

from handler.job import TrackingOptions
from handler.people.track import track
from handler.people.tracker import Tracker
from tests.handler.people.people_to_track import golden_frames, golden_textures

SEQUENCES = ["tracker", "tracker_life", "tracker_pose"]
PAIRS_COMPARED = {"tracker": 321, "tracker_life": 129, "tracker_pose": 182}  # of 918, 357 and 374
# The distance of two places is a difference of float32 squares (see squared_distances); how BLAS rounds their
# product depends on the processor and moves a cost by up to 0.3 %.
COST_TOLERANCE = 5e-3


@pytest.fixture(params=SEQUENCES)
def sequence(request):
    """The name of each recorded run."""
    return request.param


@pytest.fixture
def predictor(sequence, pose_predictor_of):
    """The pose predictor of the run."""
    return pose_predictor_of("tiny_posed" if sequence == "tracker_pose" else "tiny")


def _table(tracker, persons):
    """Identity, state, hits, age, frames since seen and true person (by identity) of each live track."""
    return [
        [t.track_id, 1 + t.confirmed, t.hits, t.age, t.time_since_update, persons[t.track_id]]
        for t in tracker.tracks
    ]


def test_tracker_goes_through_the_official_states(golden, sequence, predictor):
    """Costs, matches, track tables, expected places and poses, and mixed textures of every frame."""
    data = golden(sequence)
    textures = golden_textures(data)
    tracker = Tracker(textures, predictor, TrackingOptions(upstream_quirks=True))
    persons = {}
    for frame in golden_frames(data):

        def recorded(name, index=frame.info.frame_index):
            return data[f"t{index:03d}_{name}"]

        assert recorded("track_ids_before").tolist() == [one.track_id for one in tracker.tracks]
        states = tracker.update(frame)
        association = tracker.last
        cost = recorded("cost")
        if cost.ndim:
            np.testing.assert_array_equal(cost > 100, association.cost > 100)
            np.testing.assert_allclose(association.cost, cost, rtol=COST_TOLERANCE)
        np.testing.assert_array_equal(recorded("matches"), association.matches)
        np.testing.assert_array_equal(recorded("unmatched_tracks"), association.unmatched_tracks)
        np.testing.assert_array_equal(recorded("unmatched_dets"), association.unmatched_detections)
        persons |= {
            state.track_id: data["det_person"][frame.people.detection_index[state.detection]]
            for state in states
            if state.detection is not None
        }
        assert recorded("track_table").tolist() == _table(tracker, persons)
        if tracker.tracks:
            expected = tracker.histories.expected_locations[:, 88:]
            np.testing.assert_allclose(expected, recorded("pred_loca"), rtol=2e-5, atol=1e-6)
            np.testing.assert_allclose(tracker.histories.expected_poses, recorded("pred_pose"), atol=1e-5)
            if f"t{frame.info.frame_index:03d}_uv16" in data:
                mixed = np.stack([one.texture.uv for one in tracker.tracks])
                np.testing.assert_allclose(mixed, recorded("uv16"), atol=1e-6)
    assert PAIRS_COMPARED[sequence] == textures.pairs_asked


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("upstream_quirks", [True, False], ids=["quirks", "correct"])
def test_track_gives_the_official_output(golden, sequence, predictor, upstream_quirks):
    """Identities, order, lost and back-filled people of every frame, with and without the official faults."""
    data = golden(sequence)
    official = golden(f"{sequence}_output.json")
    options = TrackingOptions(upstream_quirks=upstream_quirks)
    frames = list(track(golden_frames(data), golden_textures(data), predictor, options))
    assert len(official) == len(frames)
    for frame, expected in zip(frames, official.values(), strict=True):
        people = frame.people
        # In the official lists the back-filled people follow those of the frame itself, as here.
        assert expected["time"] == frame.info.frame_index
        assert expected["shot"] == frame.info.shot
        assert expected["tid"] == people.track_ids.tolist()
        assert expected["tracked_ids"] == people.track_ids[people.measured].tolist()
        assert expected["tracked_time"] == people.frames_since_seen.tolist()
        assert expected["det_index"] == people.detection_index.tolist()
        boxes = people.bbox_xyxy[people.measured]
        boxes[:, 2:] -= boxes[:, :2]
        np.testing.assert_allclose(boxes, np.reshape(expected["tracked_bbox"], (-1, 4)), rtol=1e-6, atol=1e-3)
        scales = [scale / 1280 for scale in people.scale_px.tolist()]
        np.testing.assert_allclose(scales, expected["scale"], rtol=1e-12)
