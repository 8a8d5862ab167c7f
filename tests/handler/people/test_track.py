"""Track life: confirmation, back-filling, loss, and what must hold whatever happens."""

import tracemalloc
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.job import TrackingOptions
from handler.people.track import follow, track
from handler.people.tracker import Tracker
from handler.records import DEPTH, ORIGIN_X, PeopleInFrame, TrackedFrame, location_vectors, pose_vectors
from model_cache.interfaces import Texture, TrackState
from tests.fakes import FakePosePredictor, FakeTexture, FakeTextureModel
from tests.handler.people.people_to_track import frame_of, person, times_of, world

PRESENCE = st.lists(st.lists(st.integers(0, 3), unique=True, max_size=4), max_size=24)


def run(frames, *, keep=True, **options):
    """The tracked frames with fake models."""
    tracked = track(iter(frames), FakeTextureModel(), FakePosePredictor(), TrackingOptions(**options))
    return list(tracked) if keep else deque(tracked, maxlen=0)


def ids(frame, state="tracked"):
    """The identities of a frame in one state."""
    people = frame.people
    return people.track_ids[people.measured == (state == "tracked")].tolist()


@given(
    present=PRESENCE,
    n_init=st.integers(1, 7),
    max_age=st.integers(0, 12),
    predict=st.sampled_from(["TPL", "TP", "TL", "T"]),
    quirks=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_track_keeps_its_promises(present, n_init, max_age, predict, quirks):
    """Every frame once and in order, nobody and no measurement twice in it, all finite, no texture left."""
    frames = list(world(present))
    tracked = run(frames, n_init=n_init, max_age_track=max_age, predict=predict, upstream_quirks=quirks)

    assert [frame.info for frame in frames] == [frame.info for frame in tracked]
    assert [len(frame.people) for frame in frames] == [frame.num_detected for frame in tracked]
    for frame in tracked:
        people, now = frame.people, frame.info.frame_index
        assert len(set(people.track_ids.tolist())) == len(people)
        used = people.detection_index[people.measured].tolist()
        assert len(set(used)) == len(used)
        assert people.textures is None
        assert (now - people.frames_since_seen).tolist() == times_of(people)
        assert ((people.frames_since_seen >= 0) & (people.frames_since_seen <= max_age)).all()
        seen = people.take(np.flatnonzero(people.measured))
        np.testing.assert_array_equal(pose_vectors(seen), seen.poses)
        np.testing.assert_array_equal(location_vectors(seen), seen.locations)
        assert np.isfinite(people.poses).all()
        assert np.isfinite(people.locations).all()


@given(first=PRESENCE, second=PRESENCE)
@settings(max_examples=10, deadline=None)
def test_a_job_knows_nothing_of_the_one_before(first, second):
    """Tracking A and then B with the same models gives for B what B alone gives; numbers begin at 1."""
    textures, predictor = FakeTextureModel(), FakePosePredictor()

    def track_with_shared_models(present):
        return list(track(world(present), textures, predictor, TrackingOptions()))

    track_with_shared_models(first)
    after = track_with_shared_models(second)
    alone = run(world(second))

    assert [(ids(frame), ids(frame, "predicted")) for frame in alone] == [
        (ids(frame), ids(frame, "predicted")) for frame in after
    ]


@pytest.mark.parametrize("num", [3, 30])
def test_who_stays_keeps_the_number(num):
    """A few people, or a crowd."""
    assert [ids(frame) for frame in run(world([range(num)] * 12))] == [[*range(1, num + 1)]] * 12


@pytest.mark.parametrize(
    ("present", "options", "tracked", "predicted"),
    [
        ("0000.111111", {}, ".....222222", "..........."),  # the first is seen too shortly
        # The first measurements are handed in once, though PHALP's counter of hits stays at n_init.
        ("00000....000", {}, "11111....111", ".....1111..."),
        ("00000...000000", {"max_age_track": 3}, "11111...111111", ".....111......"),
        ("00000....000000", {"max_age_track": 3}, "11111....222222", ".....111......."),
        # Official fault: with n_init 1 the first measurement of every track is lost.
        ("00.1", {"n_init": 1}, "11.2", "..11"),
        # Official fault: with n_init above track_history + 1 the run ends with an IndexError.
        ("0" * 12, {"n_init": 10, "track_history": 3}, "1" * 12, "." * 12),
    ],
)
def test_tracks_live_as_in_phalp(present, options, tracked, predicted):
    """Frame by frame: who is there, who is reported, and who is only expected; no number is given twice."""
    frames = run(world(people_in(present)), **options)

    assert [ids(frame) for frame in frames] == people_in(tracked)
    assert [ids(frame, "predicted") for frame in frames] == people_in(predicted)


def people_in(signs):
    """The one person of each frame, or nobody."""
    return [[] if sign == "." else [int(sign)] for sign in signs]


def test_frames_leave_as_soon_as_they_are_complete():
    """A frame waits for n_init - 1 others and no longer."""
    taken = 0

    def counted():
        nonlocal taken
        for frame in world([[0]] * 10):
            taken += 1
            yield frame

    tracked = track(counted(), FakeTextureModel(), FakePosePredictor(), TrackingOptions(n_init=4))

    assert [taken for _ in tracked] == [4, 5, 6, 7, 8, 9, 10, 10, 10, 10]


def test_a_prediction_is_for_its_own_frame():
    """A lost person is handed on with what was expected in that frame, not one frame later."""
    frames = [
        frame_of(time, [person(0, time, x=0.3 + 0.01 * time)] if time < 10 else []) for time in range(14)
    ]
    tracked = run(frames)
    lost = tracked[11].people

    assert lost.frames_since_seen.tolist() == [2]
    # The ridge pulls the slope of 0.01 a frame down by 1.2 / 29.2 of itself.
    center, slope = 0.3 + 0.01 * 6, 0.01 * 28 / 29.2
    np.testing.assert_allclose(lost.locations[:, ORIGIN_X], center + slope * 5, rtol=1e-5)


def test_what_is_not_predicted_is_expected_as_last_seen():
    """PHALP's `predict`: without L the last location, without P the last pose, of each lost person."""

    class Moving(FakePosePredictor):
        def predict_next(self, poses, *args, **kwargs):
            return super().predict_next(poses, *args, **kwargs) + np.float32(1)

    frames = list(world([[0]] * 8 + [[]] * 3))
    pose, location = pose_vectors(frames[7].people), location_vectors(frames[7].people)

    for predict in ("TPL", "TP", "TL", "T"):
        options = TrackingOptions(n_init=2, predict=predict)
        tracked = list(track(iter(frames), FakeTextureModel(), Moving(), options))
        assert ("P" in predict) != np.array_equal(tracked[9].people.poses, pose)
        assert ("L" in predict) != np.array_equal(tracked[9].people.locations, location)


def test_a_shot_makes_old_places_forgotten():
    """After a cut a moving person is expected where seen last, not where the motion would lead."""
    expected = {}
    for shot in (False, True):
        tracker = Tracker(FakeTextureModel(), FakePosePredictor(), TrackingOptions())
        for time in range(8):
            people = [person(0, time, x=0.3 + 0.01 * time)]
            tracker.update(frame_of(time, people, shot=shot and time == 7))
        expected[shot] = float(tracker.histories.expected_locations[0, ORIGIN_X])

    assert expected[True] == pytest.approx(0.37)
    assert expected[False] > 0.375


def test_a_body_behind_the_camera_does_not_spoil_the_job():
    """A weak camera of negative scale gives a negative depth: such a person is matched with nobody."""
    frames = []
    for time in range(12):
        people = [person(0, time), person(1, time, depth=-50.0, index=1)]
        frames.append(frame_of(time, people))
    tracked = run(frames)

    assert [ids(frame) for frame in tracked] == [[1]] * 12


def test_a_depth_that_turns_negative_still_gives_finite_predictions():
    """Where no line fits, a lost person is expected where seen last."""
    depths = [50.0] * 6 + [-50.0]
    frames = [frame_of(time, [person(0, time, depth=depth)]) for time, depth in enumerate(depths)]
    tracker = Tracker(FakeTextureModel(), FakePosePredictor(), TrackingOptions())
    for frame in frames[:6]:
        tracker.update(frame)
    tracker.histories.locations[0, -1] = location_vectors(frames[6].people)[0]
    tracker.update(frame_of(6, []))

    assert np.isfinite(tracker.histories.expected_locations).all()
    assert tracker.histories.expected_locations[0, DEPTH] == -50.0


@pytest.mark.usefixtures("unchecked_types")
def test_a_long_gap_does_not_stop_the_run(pose_predictor_of):
    """Official fault: a history that spans 125 frames or more ends the run without a result."""
    present = [[0]] * 6 + [[]] * 90 + [[0]] + [[]] * 90 + [[0]] * 3
    options = TrackingOptions(max_age_track=100, upstream_quirks=True)
    tracked = list(track(world(present), FakeTextureModel(), pose_predictor_of("tiny"), options))

    assert ids(tracked[-1]) == [1]


def test_quirks_hand_the_predictor_the_official_batches():
    """With quirks two batches, matched tracks and the rest with the dying; without, one of the living."""
    sizes = {}
    for quirks in (True, False):

        class Recorder(FakePosePredictor):
            batches = ()

            def predict_next(self, poses, times, time_to_predict, *, upstream_quirks=False):
                self.batches = (*self.batches, (len(poses), upstream_quirks))
                return super().predict_next(poses, times, time_to_predict)

        recorder = Recorder()
        frames = world([[0, 1, 2], [0, 1]])  # person 2 dies tentative
        list(track(frames, FakeTextureModel(), recorder, TrackingOptions(upstream_quirks=quirks)))
        sizes[quirks] = recorder.batches

    assert sizes[True] == ((2, True), (1, True))
    assert sizes[False] == ((2, False),)


def test_little_of_a_frame_is_kept():
    """Histories, waiting frames and lost people keep no measurement's texture, and of a batch only rows."""

    class Copies(FakeTextureModel):
        def copy(self, texture):
            return FakeTexture(texture.colour)  # else a measurement's texture that is kept would not show

    textures, batches = [], []

    def watched():
        for frame in world([[0, 1, 2, 3]] * 4 + [[0, 1, 2]] * 4 + [[0, 1]] * 4 + [[0]] * 4):
            batch = np.concatenate([frame.people.betas] * 100)
            batches.append(weakref.ref(batch))
            textures.extend(map(weakref.ref, frame.people.textures))
            frame = replace(frame, people=replace(frame.people, betas=batch[: len(frame.people)]))
            del batch
            yield frame

    options, num_lost = TrackingOptions(n_init=2), 0
    for frame in track(watched(), Copies(), FakePosePredictor(), options):
        assert sum(texture() is not None for texture in textures) <= 4  # those of the newest frame
        assert sum(batch() is not None for batch in batches) <= 3  # of the frames still held or handed on
        num_lost += len(ids(frame, "predicted"))

    assert num_lost == 12 + 8 + 4


@pytest.mark.usefixtures("unchecked_types")
def test_memory_does_not_grow_with_the_video():
    """Ten times the frames, the same peak."""

    def peak(num_frames):
        tracemalloc.start()
        run(world([[0, 1, 2]] * num_frames), keep=False)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)  # what is made once and kept, such as caches

    assert peak(300) < 1.05 * peak(30) + 20_000


def test_people_without_textures_are_a_mistake_of_the_caller():
    """A person whose texture was already taken cannot be tracked again."""
    (frame,) = world([[0]])
    bare = replace(frame, people=replace(frame.people, textures=None))

    with pytest.raises(ValueError, match="textures"):
        run([bare])


POSE, LOCATION = np.ones(229, np.float32), np.ones(99, np.float32)


class ByColour:
    """An engine's tracker that knows people by their colour; `location` is expected of whoever is lost."""

    def __init__(self, n_init: int, location: np.ndarray = LOCATION) -> None:
        self._n_init = n_init
        self._location = location
        self._hits: dict[Texture, int] = {}

    def update(self, people: Sequence[Texture], frame_index: int, *, shot: bool) -> list[TrackState]:
        for texture in people:
            self._hits[texture] = self._hits.get(texture, 0) + 1
        return [
            TrackState(
                track_id=track_id,
                detection=people.index(texture) if texture in people else None,
                confirmed=hits >= self._n_init,
                expected_pose=None if texture in people else POSE,
                expected_location=None if texture in people else self._location,
            )
            for track_id, (texture, hits) in enumerate(self._hits.items(), start=1)
        ]


def followed(present: Sequence[Sequence[int]], n_init: int = 3, **options: np.ndarray) -> list[TrackedFrame]:
    """The frames of a small world, tracked by colour."""
    return list(follow(world(present), ByColour(n_init, **options), n_init))


@pytest.mark.parametrize(
    ("present", "n_init"),
    [
        ([[0], [0, 1], [0, 1], [1, 0], [1, 0, 2], [0, 1, 2], [2, 1, 0], [0], [0, 1, 2]], 3),
        ([[], [0], [0], [0], [], []], 3),
    ],
    ids=["come and go", "nobody at first"],
)
def test_records_are_those_of_our_own_tracker(present: list[list[int]], n_init: int) -> None:
    """Same frames, same people, same order, same back-filling as `track` gives for the same identities."""
    options = TrackingOptions(n_init=n_init)

    own = track(world(present), FakeTextureModel(), FakePosePredictor(), options)

    def facts(frames: Iterable[TrackedFrame]) -> list[tuple[object, ...]]:
        people = [(frame.info, frame.people) for frame in frames]
        return [(i, p.track_ids.tolist(), p.frames_since_seen.tolist(), times_of(p)) for i, p in people]

    assert facts(followed(present, n_init)) == facts(own)


def test_a_lost_person_is_marked_and_expected():
    """It carries its last measurement and what the engine expected, never a texture."""
    last = followed([[0]] * 3 + [[]] * 2)[-1].people

    assert (last.frames_since_seen.tolist(), times_of(last)) == ([2], [2])
    np.testing.assert_array_equal(last.poses, POSE[None])
    assert last.textures is None


def test_a_tentative_person_who_was_missed_begins_anew():
    """Only measurements in a row are reported in earlier frames, should an engine keep tentative tracks."""
    frames = followed([[0], [], [0], [0]])

    assert [times_of(frame.people) for frame in frames] == [[], [], [2], [3]]


def test_expectations_are_always_finite():
    """Where the engine expects a place that is no number, the last one seen stands in."""
    frames = followed([[0]] * 3 + [[]], location=np.full(99, np.nan, np.float32))

    assert np.isfinite(frames[-1].people.locations).all()


def test_one_measurement_confirms_whatever_the_engine_says() -> None:
    """With `n_init` 1 nothing is held back."""
    frames = follow(world([[0], [0]]), ByColour(9), 1)

    assert [frame.people.track_ids.tolist() for frame in frames] == [[1], [1]]


def test_the_engine_gets_the_handles_of_its_own_perception():
    """What perception gave as textures comes back in detector order."""
    seen: list[list[Texture]] = []

    class Listens(ByColour):
        def update(self, people: Sequence[Texture], frame_index: int, *, shot: bool) -> list[TrackState]:
            seen.append(list(people))
            return super().update(people, frame_index, shot=shot)

    people: Iterator[PeopleInFrame] = world([[2, 0]])
    list(follow(people, Listens(3), 3))

    assert seen == [[FakeTexture("2"), FakeTexture("0")]]
