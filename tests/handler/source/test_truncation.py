"""A file that breaks off is told from a whole one by its bytes, and only a missing picture counts."""

from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.errors import SourceError
from handler.source import packets
from handler.source.decode import DecodeReport, decode
from handler.source.probe import probe
from handler.source.truncation import is_cut_off
from tests.handler.source.decoding import LIMITS
from tests.video_factory import make_video

NUM_FRAMES = 60
END_S = 1.0
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
KINDS = {
    "fast.mp4": {},
    "fragments.mp4": {"container_options": FRAGMENTS, "faststart": False},
    "whole.mkv": {},
    "live.mkv": {"container_options": {"live": "1"}},
    "whole.webm": {"codec": "libvpx-vp9"},
    "whole.avi": {"codec": "mpeg4"},
    "whole.ts": {},
}
Got = tuple[list[tuple[int, int, bool]], bool]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole file of each kind."""
    folder = tmp_path_factory.mktemp("clips")
    return {
        name: make_video(folder / name, num_frames=NUM_FRAMES, size=(64, 48), gop=15, **more)
        for name, more in KINDS.items()
    }


def frames(path: Path, end_s: float | None, threads: int) -> Got:
    """(Source index, pts, damaged) of every frame, and whether the part is complete."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packets, "THREADS", threads)
        report = DecodeReport()
        decoded = decode(probe(path, LIMITS), LIMITS, end_s=end_s, report=report)
        got = [(frame.info.source_index, frame.info.pts, frame.info.is_corrupt) for frame in decoded]
    return got, report.reached_end


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(sorted(set(KINDS) - {"live.mkv"})),
    share=st.floats(0.3, 1.0),
    end_s=st.sampled_from([None, END_S]),
)
def test_a_part_is_truncated_just_if_pictures_are_missing(clips, tmp_path_factory, name, share, end_s):
    """Any cut position: frames as one thread gives, and the part is complete exactly if all came whole."""
    data = clips[name].read_bytes()
    path = tmp_path_factory.mktemp("x") / name
    cut = int(len(data) * share)
    if name == "whole.ts" and cut % 188 == 0 and cut < len(data):
        cut += 1  # an end between two of its packets cannot be seen
    path.write_bytes(data[:cut])
    whole, is_complete = frames(clips[name], end_s, 1)
    assert is_complete

    try:
        got, is_complete = frames(path, end_s, 1)
    except SourceError:  # cut within the first frame
        return

    assert is_complete == (got == whole)
    sixteen, is_complete_too = frames(path, end_s, 16)
    assert [frame[:2] for frame in sixteen] == [frame[:2] for frame in got]
    assert is_complete_too == is_complete


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_cut_is_seen_and_a_whole_file_is_whole(clips, tmp_path, name):
    """A file without its end gets a warning, is truncated as a whole and complete in an earlier part."""
    data = clips[name].read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) * 8 // 10 | 1])
    facts = probe(path, LIMITS)

    assert [warning.code for warning in facts.warnings] == ["VIDEO_CUT_OFF"]
    assert facts.num_frames_estimate < NUM_FRAMES  # what is there, not what the index lists
    assert not frames(path, None, 4)[1]
    assert frames(path, 0.3, 4)[1]
    assert not is_cut_off(clips[name])
    assert probe(clips[name], LIMITS).warnings == ()


@pytest.mark.parametrize("name", ["fragments.mp4", "whole.mkv", "whole.webm", "whole.avi"])
def test_an_index_that_is_cut_off_costs_no_picture(clips, tmp_path, name):
    """What these files store behind the last picture may be missing."""
    data = clips[name].read_bytes()
    marks = {"mp4": b"mfra", "mkv": b"\x1c\x53\xbb\x6b", "webm": b"\x1c\x53\xbb\x6b", "avi": b"idx1"}
    at = data.rindex(marks[name.rsplit(".")[-1]])
    path = tmp_path / name
    for end in (at - 4 * (name == "fragments.mp4"), at + 2, at + 9, len(data) - 1):
        path.write_bytes(data[:end])
        assert not is_cut_off(path), end
        assert len(frames(path, None, 1)[0]) == NUM_FRAMES


def test_missing_sound_is_no_missing_picture(tmp_path):
    """An MP4's index says where the pictures lie: a file cut behind the last of them lacks none."""
    path = make_video(tmp_path / "a.mp4", num_frames=20, audio=True)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux() if packet.size]
        end = max(packet.pos + packet.size for packet in packets if packet.stream.type == "video")
    data = path.read_bytes()

    for cut, codes in ((end, []), (end - 1, ["VIDEO_CUT_OFF"])):
        path.write_bytes(data[:cut])
        assert [warning.code for warning in probe(path, LIMITS).warnings] == codes
    assert is_cut_off(path)


def test_a_segment_index_tells_of_fragments_that_are_missing(clips, tmp_path):
    """An end exactly between two fragments is seen only with such an index, or before a fragment's data."""
    data = clips["fragments.mp4"].read_bytes()
    boxes, offset = [], 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        boxes.append((data[offset + 4 : offset + 8], offset, length))
        offset += length
    kinds = [kind for kind, _, _ in boxes]
    first_moof = boxes[kinds.index(b"moof")][1]
    second_moof = boxes[kinds.index(b"moof") + 2][1]
    second_mdat = boxes[kinds.index(b"moof") + 3][1]
    rest = boxes[kinds.index(b"mfra")][1] - first_moof
    path = tmp_path / "a.mp4"

    path.write_bytes(data[:second_moof])
    assert not is_cut_off(path)
    for end in (second_moof + 3, second_moof + 20, second_mdat, second_mdat + 20):
        path.write_bytes(data[:end])
        assert is_cut_off(path), end

    sidx = (44).to_bytes(4, "big") + b"sidx" + bytes(22) + b"\0\1" + rest.to_bytes(4, "big") + bytes(8)
    with_index = data[:first_moof] + sidx + data[first_moof:]
    path.write_bytes(with_index)
    assert not is_cut_off(path)
    path.write_bytes(with_index[: second_moof + len(sidx)])
    assert is_cut_off(path)


def test_an_unfinished_avi_is_looked_into(clips, tmp_path):
    """A recorder that was switched off has written no lengths; a frame cut short is seen all the same."""
    data = bytearray(clips["whole.avi"].read_bytes())
    at = data.index(b"movi")
    data[4:8] = data[at - 4 : at] = bytes(4)
    path = tmp_path / "a.avi"
    path.write_bytes(data)
    assert not is_cut_off(path)
    path.write_bytes(data[: data.rindex(b"00dc", 0, data.rindex(b"idx1")) + 20])
    assert is_cut_off(path)


@given(head=st.sampled_from(sorted(KINDS)), data=st.data())
def test_any_bytes_are_judged(clips, tmp_path_factory, head, data):
    """Damage of any kind gives an answer."""
    whole = bytearray(clips[head].read_bytes()[:4000])
    for _ in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("x") / head
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])

    assert is_cut_off(path) in (True, False)
