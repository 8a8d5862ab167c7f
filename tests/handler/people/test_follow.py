"""Identities of an engine's own tracker as the job's records."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest

from handler.job import TrackingOptions
from handler.people.track import follow, track, tracker_options
from handler.records import PeopleInFrame, TrackedFrame
from model_cache.interfaces import Texture, TrackState
from tests.fakes import FakePosePredictor, FakeTexture, FakeTextureModel
from tests.handler.people.people_to_track import times_of, world

POSE, LOCATION = np.ones(229, np.float32), np.ones(99, np.float32)


class ByColour:
    """An engine's tracker that knows people by their colour and forgets nobody.

    Args:
        n_init: measurements that confirm a track.
        location: expected of whoever is lost.
    """

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
        ([[0], [0]], 1),
    ],
    ids=["come and go", "nobody at first", "one is enough"],
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
    frames = list(follow(world([[0], [0]]), ByColour(9), 1))

    assert [frame.people.track_ids.tolist() for frame in frames] == [[1], [1]]


def test_options_reach_the_engine():
    """PHALP's names and the job's values."""
    options = tracker_options(TrackingOptions(n_init=2, max_age_track=9, alpha=0.5))

    assert (options.n_init, options.max_age_track, options.alpha) == (2, 9, 0.5)


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
