"""Whole jobs through the real handler and every real stage; only the networks are fakes.

The video comes over HTTP with a secret in its URL, the results go to a real S3 server. After every test, all
that was logged, reported, replied and stored is searched for the secrets.
"""

import json
from typing import Any

import numpy as np
import pytest

from tests.fakes import Box, draw_people
from tests.handler.rig import FPS, NUM_FRAMES, SIZE, Rig, boxes_of
from tests.video_factory import make_video


def expected_person(track_id: int, colour_index: int, box: Box) -> dict[str, Any]:
    """What is written for a person in this box, by the fakes' rules and PHALP's camera."""
    x1, y1, x2, y2 = box
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    ratio = 256 / max(SIZE)
    depth = 2 * 5000 / ((y2 - y1) * ratio)
    on_canvas = (centre + np.array([0, (SIZE[0] - SIZE[1]) / 2])) * ratio
    transl = [*((on_canvas - 128) * depth / 5000), depth]
    return {
        "track_id": track_id,
        "state": "tracked",
        "bbox_xyxy": [float(value) for value in box],
        "global_orient": [0.0, round(centre[0] / SIZE[0], 4), 0.0],
        "betas": [colour_index / 4] + [0.0] * 9,
        "transl": transl,
    }


def test_job_gives_exactly_the_expected_document(rig: Rig) -> None:
    """Every frame has its line, its time, its people with ids, places and parameters; the summary agrees."""
    reply = rig.run(rig.job("exact"))

    assert (reply["status"], reply["frames"], reply["people"]) == ("completed", NUM_FRAMES, 2)
    lines = rig.lines("exact")
    assert [line["frame"] for line in lines] == list(range(NUM_FRAMES))
    assert [line["time_s"] for line in lines] == [index / FPS for index in range(NUM_FRAMES)]
    for index, line in enumerate(lines):
        expected = [
            expected_person(track_id, track_id - 1, box)
            for track_id, box in enumerate(boxes_of(index).values(), start=1)
        ]
        assert len(line["people"]) == len(expected)
        for person, wanted in zip(line["people"], expected, strict=True):
            smpl = person["smpl"]
            assert np.allclose(smpl.pop("transl"), wanted.pop("transl"), atol=2e-4)
            assert {key: {**person, **smpl}[key] for key in wanted} == wanted
            assert smpl["body_pose"] == [0.0] * 69
    summary = json.loads(rig.bucket.get("exact/result.json"))
    assert summary["processed"]["frames"] == NUM_FRAMES
    assert [one["n_tracked"] for one in summary["tracks"]] == [NUM_FRAMES, NUM_FRAMES - 10]
    assert {"download", "decode", "perceive", "track", "write", "upload"} <= set(
        summary["timing"]["stages_s"]
    )
    assert summary["models"]["notice"] == "fake models"
    assert [artifact["key"] for artifact in reply["artifacts"]] == [
        f"exact/{reply['artifacts'][0]['sha256'][:16]}/frames.jsonl.gz",
        "exact/result.json",
    ]


def test_jobs_do_not_touch_each_other(rig: Rig) -> None:
    """A job after another one in the same worker gives the same bytes as alone: ids start at 1 again."""
    handler = rig.handler()
    rig.run(rig.job("alone"), handler)
    other = make_video(
        rig.scratch.folder.parent / "other.mp4",
        num_frames=12,
        size=SIZE,
        draw=lambda index, size: draw_people(
            {"blue": (100, 60, 164, 204), "pink": (200, 60, 264, 204)}, size
        ),
    )
    rig.run(rig.job("between", other), handler)
    rig.run(rig.job("after"), handler)

    first, last = (rig.bucket.get(rig.keys(job_id)["frames.jsonl.gz"]) for job_id in ("alone", "after"))
    assert first == last


def test_same_job_again_is_answered_from_its_results(rig: Rig) -> None:
    """A job that is complete is not run again; the same id with another input is."""
    handler = rig.handler()
    job = rig.job("again")
    first = rig.run(job, handler)
    num_batches = len(rig.models.perception.batches)
    second = rig.run(job, handler)
    assert len(rig.models.perception.batches) == num_batches
    changed = {"id": "again", "input": {**job["input"], "options": {"stride": 2}}}
    third = rig.run(changed, handler)

    assert (first["reused"], second["reused"], third["reused"]) == (False, True, False)
    assert second == {**first, "reused": True}
    assert third["frames"] == NUM_FRAMES / 2


@pytest.mark.parametrize(("every_frames", "num_cleared"), [(1, 4), (8, 3), (9, 2), (0, 0)])
def test_cache_is_cleared_as_often_as_asked(rig: Rig, every_frames: int, num_cleared: int) -> None:
    """30 frames in batches of 8, 8, 8 and 6: after the batch in which so many frames are full, or never."""
    rig.every_frames = every_frames
    rig.run(rig.job(f"clear-{every_frames}"))

    assert rig.models.num_cleared == num_cleared
    assert [len(batch) for batch in rig.models.perception.batches] == [8, 8, 8, 6]


def test_options_reach_their_stages(rig: Rig) -> None:
    """Trim, stride, smallest box and most people change what comes out as they say."""
    options = {"start_s": 0.4, "end_s": 0.8, "stride": 2, "max_people": 1}
    reply = rig.run(rig.job("options", options=options))
    lines = rig.lines("options")
    assert reply["frames"] == 5
    assert [line["source_frame"] for line in lines] == [10, 12, 14, 16, 18]
    assert [[person["track_id"] for person in line["people"]] for line in lines] == [[1]] * 5

    small = rig.run(rig.job("small", options={"tracking": {"phalp.small_w": 100}}))
    assert (small["status"], small["people"]) == ("completed", 0)
    assert [warning["code"] for warning in small["warnings"]] == ["NO_PEOPLE"]
    assert [line["people"] for line in rig.lines("small")] == [[]] * NUM_FRAMES
