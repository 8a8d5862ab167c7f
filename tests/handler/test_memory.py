"""Memory does not depend on the length of the video."""

import gc
from pathlib import Path

import av
import pytest

from benchmarks.job_memory import job_peak
from benchmarks.soak import reports
from handler.settings import IntakeSettings
from handler.source.decode import decode
from handler.source.probe import probe
from tests.video_factory import make_video


def pictures_alive() -> int:
    """Decoded pictures that something still holds; `type` asks none of the objects anything."""
    return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())


def test_decoded_pictures_are_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    """No reference cycle keeps the decoder's pictures: at 1080p each one is 3 MB."""
    clip = make_video(tmp_path / "clip.mp4", num_frames=60)
    settings = IntakeSettings()
    gc.collect()
    num_before = pictures_alive()  # other tests may keep some
    gc.disable()
    try:
        num_frames = sum(1 for _ in decode(probe(clip, settings), settings))
        num_alive = pictures_alive() - num_before
    finally:
        gc.unfreeze()
        gc.enable()

    assert num_frames == 60
    assert num_alive <= 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("models", "few", "many"), [("fake", 500, 10_000), ("lite", 250, 700)])
def test_memory_of_a_job_does_not_grow_with_its_length(tmp_path, models, few, many) -> None:
    """Within 5 %, once as many tracks as ever have been alive: after 200 frames with the bundled networks."""
    short, long = (job_peak(tmp_path, num_frames, models) for num_frames in (few, many))

    assert long["people"] > short["people"] > 0
    assert long["peak_bytes"] < 1.05 * short["peak_bytes"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_does_not_grow_with_the_number_of_jobs() -> None:
    """Good, failed, refused and cancelled jobs of all sizes leave no object, thread or file behind."""
    seen = list(reports("fake", 240))
    before, last = seen[-6], seen[-1]

    assert last["num_objects"] - before["num_objects"] <= 20  # the libraries' caches were full before
    assert last["threads"] == before["threads"]
    assert abs(last["files"] - before["files"]) <= 1  # a connection on its way out
    assert last["rss"] <= 1.03 * before["rss"]
    assert {"completed", "reused", "CancelledError", "UPLOAD_DENIED", "VIDEO_UNREADABLE"} <= set(
        last["outcomes"]
    )
