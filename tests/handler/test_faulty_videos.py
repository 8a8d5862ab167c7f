"""Whole jobs over odd and broken files: each with its documented outcome, warnings included.

What comes out of the decoder is looked at closely in `source/`; here it is what the caller gets.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.fakes import COLOURS_BGR, GREY, draw_people
from tests.handler.rig import FPS, NUM_FRAMES, SIZE, Rig, draw, make_clip
from tests.video_factory import damage, join, make_audio, make_still


def cut_before_its_index(path: Path) -> Path:
    """Half of a file that ends with its index."""
    return make_clip(path, truncated=0.5, faststart=False)


SMALL = {"tracking": {"phalp.small_w": 8, "phalp.small_h": 8}}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "VIDEO_UNREADABLE", id="zero bytes"),
        pytest.param(b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n", "VIDEO_UNREADABLE", id="HLS playlist"),
        pytest.param(lambda path: make_still(path.with_suffix(".png")), "VIDEO_UNREADABLE", id="still image"),
        pytest.param(lambda path: make_audio(path), "VIDEO_HAS_NO_FRAMES", id="audio only"),
        pytest.param(cut_before_its_index, "VIDEO_UNREADABLE", id="cut before its index"),
    ],
)
def test_file_that_is_no_video_is_refused(
    rig: Rig,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    content: bytes | Callable[[Path], Path],
    code: str,
) -> None:
    """The job fails before a model is asked, and says what the file is instead."""
    data = content if isinstance(content, bytes) else content(tmp_path / "clip.mp4").read_bytes()
    job_id = request.node.callspec.id.replace(" ", "-")
    reply = rig.run(rig.job(job_id, data))

    assert (reply["error_code"], reply["stage"], reply["retryable"]) == (code, "probe", False)
    assert rig.models.perception.batches == []
    assert rig.bucket.keys(job_id) == []


def test_video_of_one_frame_is_a_video(rig: Rig, tmp_path: Path) -> None:
    """One line; nobody, since a track needs `n_init` measurements, unless one is enough."""
    clip = make_clip(tmp_path / "one.mp4", num_frames=1)
    assert rig.run(rig.job("one", clip))["people"] == 0
    assert [len(line["people"]) for line in rig.lines("one")] == [0]
    reply = rig.run(rig.job("one-at-once", clip, options={"tracking": {"phalp.n_init": 1}}))

    assert (reply["frames"], reply["people"]) == (1, 1)
    assert [person["track_id"] for person in rig.lines("one-at-once")[0]["people"]] == [1]


def test_nobody_in_the_video_is_a_success(rig: Rig, tmp_path: Path) -> None:
    """Every frame has its line, all are empty, and the warning says so."""
    clip = make_clip(tmp_path / "empty.mp4", draw=lambda index, size: draw_people({}, size))
    reply = rig.run(rig.job("nobody", clip))

    assert (reply["status"], reply["frames"], reply["people"]) == ("completed", NUM_FRAMES, 0)
    assert [line["people"] for line in rig.lines("nobody")] == [[]] * NUM_FRAMES
    assert rig.warnings("nobody") == ["NO_PEOPLE"]


def test_thirty_people_are_all_followed(rig: Rig, tmp_path: Path) -> None:
    """A crowd is thirty lines of life, each with one number from its first frame to its last."""
    colours = list(COLOURS_BGR.values())

    def crowd(index: int, size: tuple[int, int]) -> Any:
        image = np.full((size[1], size[0], 3), GREY, np.uint8)
        for i in range(30):
            x, y = 8 + 52 * (i % 6) + index % 8, 8 + 46 * (i // 6)
            image[y : y + 36, x : x + 24] = colours[i % 4]
        return image

    clip = make_clip(tmp_path / "crowd.mp4", num_frames=12, draw=crowd)
    reply = rig.run(rig.job("crowd", clip, options=SMALL))

    assert (reply["frames"], reply["people"]) == (12, 30)
    lines = rig.lines("crowd")
    assert [len(line["people"]) for line in lines] == [30] * 12
    places = [{person["track_id"]: person["bbox_xyxy"] for person in line["people"]} for line in lines]
    for place in places[1:]:
        assert set(place) == set(places[0])
        assert all(np.abs(np.subtract(place[one], places[0][one])).max() <= 16 for one in place)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_video_gives_upright_people(rig: Rig, tmp_path: Path, rotation: int) -> None:
    """Boxes and bodies are where a viewer sees them."""
    full = {"pixel_format": "yuv444p"}  # halved chroma would blur other edges when it is turned
    turned = make_clip(tmp_path / "turned.mp4", rotation=rotation, **full)
    rig.run(rig.job("upright", make_clip(tmp_path / "upright.mp4", **full)))
    rig.run(rig.job(f"turned-{rotation}", turned))

    assert rig.lines(f"turned-{rotation}") == rig.lines("upright")
    assert rig.summary(f"turned-{rotation}")["source"]["rotation_deg"] == rotation


def test_variable_rate_keeps_its_times(rig: Rig, tmp_path: Path) -> None:
    """Each line has its frame's own time."""
    times = [0.04 * index + 0.5 * (index > 6) for index in range(12)]
    rig.run(rig.job("variable", make_clip(tmp_path / "clip.mp4", num_frames=12, times=times)))

    assert [line["time_s"] for line in rig.lines("variable")] == pytest.approx(times, abs=1e-5)
    assert rig.summary("variable")["source"]["is_vfr"]


def test_change_of_size_is_survived(rig: Rig, tmp_path: Path) -> None:
    """Later frames are fitted into the first one's size, so people stay where they are seen."""
    first = make_clip(tmp_path / "1.ts", num_frames=12, draw=lambda _, size: draw(10, size))
    double = make_clip(
        tmp_path / "2.ts",
        num_frames=12,
        size=(2 * SIZE[0], 2 * SIZE[1]),
        draw=lambda _, size: cv2.resize(draw(10, SIZE), size, interpolation=cv2.INTER_NEAREST),
    )
    reply = rig.run(rig.job("resized", join(tmp_path / "all.ts", first, double)))

    assert (reply["frames"], reply["people"]) == (24, 2)
    assert "SIZE_CHANGED" in rig.warnings("resized")
    boxes = np.array([[one["bbox_xyxy"] for one in line["people"]] for line in rig.lines("resized")])
    assert np.abs(boxes - boxes[0]).max() <= 4


def test_odd_size_is_kept(rig: Rig, tmp_path: Path) -> None:
    """Width and height need not be even, for the overlay neither."""
    clip = make_clip(tmp_path / "odd.mp4", size=(321, 241), pixel_format="yuv444p")
    reply = rig.run(rig.job("odd", clip, options={"artifacts": ["overlay.mp4"]}))

    assert (reply["frames"], reply["people"]) == (NUM_FRAMES, 2)
    source = rig.summary("odd")["source"]
    assert (source["width"], source["height"]) == (321, 241)


def test_damage_in_the_middle_is_counted(rig: Rig, tmp_path: Path) -> None:
    """The job goes on behind the damage, at the right times, and says which frames are damaged."""
    whole = make_clip(tmp_path / "clip.mp4", num_frames=150, gop=15)
    reply = rig.run(rig.job("damaged", damage(whole, start=0.4, end=0.5, num_bytes=60, seed=1)))

    lines = rig.lines("damaged")
    corrupt = [line["frame"] for line in lines if line.get("corrupt")]
    assert "FRAMES_CORRUPT" in rig.warnings("damaged")
    assert rig.summary("damaged")["quality"]["corrupt_frames"] == len(corrupt) > 0
    assert reply["frames"] == len(lines) > 120
    assert [line["time_s"] for line in lines[-20:]] == [index / FPS for index in range(130, 150)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_missing_end_behind_the_part_is_told_and_harms_nothing(rig: Rig, tmp_path: Path, name: str) -> None:
    """A file that breaks off behind `end_s` has all that was asked for."""
    data = make_clip(tmp_path / name, num_frames=120).read_bytes()
    clip = tmp_path / name
    clip.write_bytes(data[: len(data) * 6 // 10 | 1])
    for job_id, options, is_truncated in (("all", {}, True), ("part", {"end_s": 0.5}, False)):
        reply = rig.run(rig.job(f"{name}-{job_id}", clip, options=options))

        processed = rig.summary(f"{name}-{job_id}")["processed"]
        assert (processed["truncated"], processed["reason"] is not None) == (is_truncated, is_truncated)
        assert "VIDEO_CUT_OFF" in rig.warnings(f"{name}-{job_id}")
        assert (reply["frames"] == 13) == (not is_truncated)
        assert reply["frames"] == len(rig.lines(f"{name}-{job_id}")) < 120


@pytest.mark.usefixtures("unchecked_types")
def test_any_damage_gets_a_coded_reply(rig: Rig, tmp_path: Path) -> None:
    """Random bytes anywhere in a file: a result, or an error that is no bug."""
    whole = make_clip(tmp_path / "clip.mp4").read_bytes()
    handler = rig.handler()
    for seed in range(24):
        path = tmp_path / "damaged.mp4"
        path.write_bytes(whole)
        damage(path, start=0.0, end=1.0, num_bytes=4 ** (seed % 4 + 1), seed=seed)
        reply = rig.run(rig.job(f"any-{seed}", path), handler)
        assert str(reply.get("error_code", "VIDEO_")).startswith("VIDEO_"), reply
