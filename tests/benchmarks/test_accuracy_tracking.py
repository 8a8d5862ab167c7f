"""Tracking scores against TrackEval's recorded numbers, and the trackers that the accuracy table compares."""

from dataclasses import asdict

import numpy as np
import pytest

from benchmarks import accuracy_trackers
from benchmarks.accuracy_people import OPTIONS, perceive
from benchmarks.accuracy_trackers import (
    OVERLAP,
    PATIENCE,
    SamePose,
    Tracked,
    in_one_place,
    in_one_pose,
    overlap,
    trackers,
)
from benchmarks.accuracy_tracking import Instant, score_tracking
from handler.people.association import cost_factors
from handler.people.motion import predict_locations
from handler.records import location_vectors, pose_vectors
from tests.fakes import FakeModels, FakePerception, FakePosePredictor, draw_people
from tests.goldens import load_golden


def instant(true: list[int], found: list[int], similarity: list[list[float]]) -> Instant:
    """A frame."""
    return Instant(
        true=np.array(true, np.int64),
        found=np.array(found, np.int64),
        similarity=np.array(similarity, float).reshape(len(true), len(found)),
    )


def tracked(*tracks: dict[int, int]) -> list[Instant]:
    """Frames in which people 0 and 1 have these tracks, found exactly, or none."""
    return [instant([0, 1], list(f.values()), [[float(p == q) for q in f] for p in (0, 1)]) for f in tracks]


def shuffled(clip: list[Instant]) -> list[Instant]:
    """The same under other numbers for tracks and people, and in another order in each frame."""
    rng = np.random.default_rng(0)
    new_name = rng.permutation(10_000)
    frames = []
    for frame in clip:
        rows, columns = rng.permutation(len(frame.true)), rng.permutation(len(frame.found))
        true, found = new_name[frame.true[rows] + 77], new_name[frame.found[columns]]
        frames.append(Instant(true=true, found=found, similarity=frame.similarity[np.ix_(rows, columns)]))
    return frames


@pytest.mark.parametrize("case", load_golden("tracking_scores.json"), ids=lambda _: "")
def test_scores_are_trackevals(case):
    """Every score of a random tracking with swaps, breaks, doubles and mistakes; names and order are free."""
    clip = [instant(**frame) for frame in case["frames"]]

    assert asdict(score_tracking(clip)) == pytest.approx(case["scores"], abs=1e-9)
    assert asdict(score_tracking(shuffled(clip))) == pytest.approx(case["scores"], abs=1e-9)


def test_a_swap_half_way_costs_half_of_the_identity():
    """Two people swap tracks after 5 of 10 frames: IDF1 a half, two switches, AssA a third, all found."""
    scores = score_tracking(tracked(*[{0: 1, 1: 2}] * 5, *[{0: 2, 1: 1}] * 5))

    assert (scores.idf1, scores.switches, scores.det_a) == (0.5, 2, 1)
    assert (scores.ass_a, scores.mota) == pytest.approx((5 / 15, 1 - 2 / 20))


@pytest.mark.parametrize("clip", [tracked({}, {}), []], ids=["nothing found", "nobody there"])
def test_nothing_found_and_nobody_there_have_scores(clip):
    """All are 0; nothing divides by zero. MOTA of an empty clip, 1, says that there was no mistake."""
    scores = score_tracking(clip)

    assert (scores.idf1, scores.hota, scores.switches, scores.mota) == (0, 0, 0, 0 if clip else 1)


SIZE = (480, 160)


def people_of(*frames: dict[str, tuple[int, int, int, int]]):
    """What is found in frames of coloured rectangles."""
    pictures = [(t, t / 25, draw_people(boxes, SIZE)) for t, boxes in enumerate(frames)]
    return perceive(iter(pictures), FakePerception(), OPTIONS)


def walking(num_frames: int = 12):
    """Red walks right, blue stands."""
    blue = (240, 20, 280, 120)
    return people_of(*({"red": (x, 20, x + 40, 120), "blue": blue} for x in range(8, 8 + 8 * num_frames, 8)))


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


@pytest.mark.parametrize("term", ["pose", "location"])
def test_without_a_term_all_pairs_cost_the_same_in_it(term):
    """In one pose, or place, as is expected too, any pair's factor is 1; the other term is as it was."""
    take_away = in_one_pose if term == "pose" else in_one_place
    before, after = (frames[5].people for frames in (walking(), take_away(walking())))
    poses, locations = pose_vectors(after), location_vectors(after)
    times, lost = np.tile(np.arange(7), (2, 1)), np.zeros(2, np.int64)
    history = [np.tile(vectors[:, None], (1, 7, 1)) for vectors in (poses, locations)]
    expected_pose = SamePose(FakePosePredictor()).predict_next(history[0], times, lost)
    expected_place = predict_locations(history[1], times, lost)
    pose_factor, place_factor = cost_factors(expected_pose, expected_place, poses, locations)

    factor = pose_factor if term == "pose" else place_factor
    assert factor == pytest.approx(1, abs=1e-4)
    assert (poses[:, :226] == pose_vectors(before)[:, :226]).all() == (term == "location")
    assert (locations == location_vectors(before)).all() == (term == "pose")


def test_each_ablation_takes_one_term_away(monkeypatch):
    """Names go with what they take away, and nothing else is taken away."""
    models, people = FakeModels(), walking()
    seen = []
    monkeypatch.setattr(accuracy_trackers, "phalp", lambda *given: seen.append(given))
    names = [name.strip() for name in trackers(models) if name != OVERLAP]
    for name, tracker in trackers(models).items():
        if name != OVERLAP:
            tracker(people)
    columns = zip(*seen, strict=True)
    frames, textures, predictors, options = (dict(zip(names, column, strict=True)) for column in columns)

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
