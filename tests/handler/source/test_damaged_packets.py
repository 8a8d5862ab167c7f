"""One damaged packet costs what it holds and nothing else, however many threads decode."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.source import packets
from handler.source.packets import ReadTally, read_pictures
from handler.source.probe import probe
from tests.handler.source.decoding import LIMITS, X264, X265, frames_of, overwrite
from tests.video_factory import make_video

NUM_FRAMES = 45
CODECS = {"libx264": X264, "libx265": X265}
WAYS = {
    "zeros": lambda data: bytes(len(data)),
    "ones": lambda data: b"\xff" * len(data),
    "head": lambda data: bytes(min(32, len(data))) + data[32:],
    "half": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A clip of each codec in each container."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        (codec, suffix): make_video(
            folder / f"{codec}{suffix}",
            num_frames=NUM_FRAMES,
            size=(64, 48),
            codec=codec,
            gop=15,
            options=options,
        )
        for codec, options in CODECS.items()
        for suffix in (".mp4", ".mkv")
    }


def spoil(path: Path, into: Path, number: int, way: str) -> Path:
    """A copy with one packet overwritten, its size unchanged."""
    return overwrite(Path(shutil.copy(path, into)), number, WAYS[way])


def read_with(threads: int, path: Path) -> tuple[list[tuple[int, int | None]], int]:
    """(Source index, pts) of every picture that comes, and the number of damaged packets."""
    tally = ReadTally()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packets, "THREADS", threads)
        pictures = read_pictures(probe(path, LIMITS), LIMITS, lambda: None, tally)
        return [(index, picture.pts) for index, picture in pictures], len(tally.damaged)


@settings(max_examples=25, deadline=None)
@given(
    codec=st.sampled_from(sorted(CODECS)),
    suffix=st.sampled_from([".mp4", ".mkv"]),
    number=st.integers(0, 14) | st.integers(NUM_FRAMES - 20, NUM_FRAMES - 1),
    way=st.sampled_from(sorted(WAYS)),
)
def test_threads_neither_lose_nor_hide_anything(clips, tmp_path_factory, codec, suffix, number, way):
    """Any damaged packet: the pictures, their times and the count of damage are those of one thread."""
    path = spoil(clips[codec, suffix], tmp_path_factory.mktemp("x") / f"x{suffix}", number, way)
    expected = read_with(1, path)

    assert len(expected[0]) >= NUM_FRAMES - 20
    for threads in (2, 4, 16):
        assert read_with(threads, path) == expected


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("codec", "num_lost"), [("libx264", 1), ("libx265", 2)])  # HEVC: one refers to it
def test_damage_near_the_end_is_counted_and_named(clips, tmp_path, monkeypatch, codec, suffix, num_lost):
    """Sixteen threads meet it only while the decoder is emptied; what can be decoded comes all the same."""
    path = spoil(clips[codec, suffix], tmp_path / f"x{suffix}", NUM_FRAMES - 2, "ones")
    monkeypatch.setattr(packets, "THREADS", 16)

    frames, report = frames_of(path)

    assert len(frames) == NUM_FRAMES - num_lost
    assert "1 pieces" in next(warn.message for warn in report.warnings if warn.code == "FRAMES_CORRUPT")
