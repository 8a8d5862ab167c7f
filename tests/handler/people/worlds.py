"""Small worlds of people to track: who is there in which frame, and where. Knows nothing of the tracker."""

from collections.abc import Iterator, Sequence

import numpy as np

from handler.records import PeopleInFrame, PlacedPeople
from tests.fakes import FakeTexture
from tests.handler.people.golden_tracks import frame_of, person_of

WIDTH, HEIGHT = 1280, 720


def person(
    identity: int, time: int, *, x: float | None = None, depth: float = 60.0, index: int = 0
) -> PlacedPeople:
    """One person: pose and colour tell who, `betas[0]` the frame.

    Args:
        identity: which person.
        time: frame index.
        x: place on the canvas, 0 to 1; default one of its own.
        depth: metres on the canvas.
        index: place among the frame's detections.
    """
    rng = np.random.default_rng(identity)
    pose = rng.normal(0, 0.3, 229).astype(np.float32)
    pose[216] = time / 1e4
    x = 0.1 + 0.15 * identity if x is None else x
    location = np.full(99, 0.5, np.float32)
    location[88] = x
    location[90:] = [(x - 0.5) * depth * 256 / 5000, 0, depth] * 3
    return person_of(
        pose,
        location,
        bbox_xywh=np.array([WIDTH * x - 40, 100, 80, 400]),
        score=0.9,
        index=index,
        texture=FakeTexture(str(identity)),
    )


def times_of(people: PlacedPeople) -> list[int]:
    """The frames in which people were measured."""
    return [round(beta * 1e4) for beta in people.betas[:, 0].tolist()]


def world(present: Sequence[Sequence[int]], shots: Sequence[int] = ()) -> Iterator[PeopleInFrame]:
    """Frames in which the given people stand still, each in a place of its own."""
    for time, identities in enumerate(present):
        people = [person(identity, time, index=index) for index, identity in enumerate(identities)]
        yield frame_of(time, people, width=WIDTH, height=HEIGHT, shot=time in shots)
