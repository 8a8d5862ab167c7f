"""The trackers that the accuracy table compares, and that a term taken away is away."""

import numpy as np
import pytest

from benchmarks import accuracy_trackers
from benchmarks.accuracy_people import OPTIONS, perceive
from benchmarks.accuracy_trackers import (
    OVERLAP,
    PATIENCE,
    AnyTexture,
    SamePose,
    Tracked,
    in_one_place,
    in_one_pose,
    overlap,
    phalp,
    trackers,
)
from handler.job import TrackingOptions
from handler.people.association import cost_factors
from handler.people.motion import predict_locations
from handler.records import location_vectors, pose_vectors
from tests.fakes import FakeModels, FakePerception, FakePosePredictor, FakeTextureModel, draw_people

SIZE = (480, 160)


def people_of(*frames: dict[str, tuple[int, int, int, int]]):
    """What is found in frames of coloured rectangles."""
    pictures = [(t, t / 25, draw_people(boxes, SIZE)) for t, boxes in enumerate(frames)]
    return perceive(iter(pictures), FakePerception(), OPTIONS)


def walking(num_frames: int = 12):
    """Red walks right, blue stands."""
    return people_of(
        *({"red": (8 + 8 * t, 20, 48 + 8 * t, 120), "blue": (240, 20, 280, 120)} for t in range(num_frames))
    )


def colours(people, tracked: list[Tracked]) -> dict[int, set[str]]:
    """The colours that each track has had."""
    had: dict[int, set[str]] = {}
    for frame, followed in zip(people, tracked, strict=True):
        for row, track in zip(followed.rows, followed.ids, strict=True):
            had.setdefault(int(track), set()).add(frame.people.textures[row].colour)
    return had


def test_every_tracker_follows_two_people_apart():
    """Where nothing is difficult each tracker gives each person one track in all frames."""
    people = walking()
    for name, tracker in trackers(FakeModels()).items():
        tracked = tracker(people)
        had = colours(people, tracked)
        assert sorted(map(sorted, had.values())) == [["blue"], ["red"]], name
        assert [len(frame.rows) for frame in tracked] == [2] * len(people), name


def test_phalp_without_texture_takes_one_for_the_other():
    """Two people who change places in one frame keep their tracks by their textures alone."""
    left, right = (40, 20, 80, 120), (84, 20, 124, 120)
    people = people_of(*[{"red": left, "blue": right}] * 8, *[{"red": right, "blue": left}] * 8)
    with_term = phalp(people, FakeTextureModel(), FakePosePredictor(), TrackingOptions())
    without = phalp(people, AnyTexture(), FakePosePredictor(), TrackingOptions())

    assert sorted(map(sorted, colours(people, with_term).values())) == [["blue"], ["red"]]
    assert list(colours(people, without).values()) == [{"red", "blue"}] * 2


def test_without_the_pose_term_all_poses_cost_the_same():
    """Everybody stands alike and is expected to: any pair's pose factor is 1, and places are as they were."""
    before, after = walking()[5], in_one_pose(walking())[5]
    poses, locations = pose_vectors(after.people), location_vectors(after.people)
    expected = SamePose(FakePosePredictor()).predict_next(
        np.tile(poses[:, None], (1, 7, 1)), np.zeros((2, 7), np.int64), np.zeros(2, np.int64)
    )
    pose_factor, _ = cost_factors(expected, locations, poses, locations)

    assert (pose_factor == 1).all()
    assert (locations == location_vectors(before.people)).all()
    assert (pose_vectors(before.people) != poses).any()


def test_without_the_location_term_all_places_cost_the_same():
    """Everybody is at one place and expected there: its factor is 1, and poses are as they were."""
    before, after = walking()[5], in_one_place(walking())[5]
    poses, locations = pose_vectors(after.people), location_vectors(after.people)
    history = np.tile(locations[:, None], (1, 7, 1))
    expected = predict_locations(history, np.tile(np.arange(7), (2, 1)), np.zeros(2, np.int64))
    _, place_factor = cost_factors(poses, expected, poses, locations)

    assert place_factor == pytest.approx(1, abs=1e-4)
    assert (poses[:, :226] == pose_vectors(before.people)[:, :226]).all()


def test_each_ablation_takes_one_term_away(monkeypatch):
    """Names go with what they take away, and nothing else is taken away."""
    models, people = FakeModels(), walking()
    seen = []
    monkeypatch.setattr(accuracy_trackers, "phalp", lambda *given: seen.append(given))
    names = [name.strip() for name in trackers(models) if name != OVERLAP]
    for name, tracker in trackers(models).items():
        if name != OVERLAP:
            tracker(people)
    frames, textures, predictors, options = (
        dict(zip(names, each, strict=True)) for each in zip(*seen, strict=True)
    )

    assert [name for name in names if frames[name] is not people] == ["no pose term", "no location term"]
    assert (frames["no pose term"][0].people.betas == 0).all()
    assert (frames["no location term"][0].people.cam_t == in_one_place(people)[0].people.cam_t).all()
    assert [name for name in names if textures[name] is not models.texture] == ["no texture term"]
    assert [name for name in names if predictors[name] is not models.pose_predictor] == ["no pose term"]
    assert [name for name in names if options[name].upstream_quirks] == ["official bugs"]


def test_overlap_goes_on_with_the_box_that_overlaps_and_forgets():
    """A track survives a gap up to the tracker's patience, and a jump is somebody new."""
    box, far = (40, 20, 80, 120), (200, 20, 240, 120)
    short = overlap(people_of({"red": box}, *[{}] * (PATIENCE - 1), {"red": box}))
    long = overlap(people_of({"red": box}, *[{}] * PATIENCE, {"red": box}))
    jump = overlap(people_of({"red": box}, {"red": far}))

    assert short[0].ids == short[-1].ids
    assert long[0].ids != long[-1].ids
    assert jump[0].ids != jump[-1].ids
