"""Whether a file breaks off before the end that its own structure states.

Every container but a transport stream nests its content in pieces that state their length. A file that ends
inside a piece with pictures was not written or transferred completely. Not detectable: an end exactly between
two fragments, clusters of a live recording or packets of a transport stream.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Boxes that may open an ISO media file (MP4, MOV, 3GP), and those that may follow the last picture.
ISO_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp", b"sidx"}
ISO_AFTER = {b"mfra", b"free", b"skip", b"wide", b"udta", b"meta", b"uuid"}
ISO_FRAGMENT = (b"moof", b"mdat", b"styp", b"sidx", b"emsg", b"prft")

# Ids of Matroska's elements.
EBML, SEGMENT, CLUSTER = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"
CUES, SEEK_HEAD, TAGS = b"\x1c\x53\xbb\x6b", b"\x11\x4d\x9b\x74", b"\x12\x54\xc3\x67"
CHAPTERS, ATTACHMENTS, VOID = b"\x10\x43\xa7\x70", b"\x19\x41\xa4\x69", b"\xec"
MKV_AFTER = {CUES, SEEK_HEAD, TAGS, CHAPTERS, ATTACHMENTS, VOID}  # may follow the last picture

TS_PACKETS = ((188, 0), (192, 4), (204, 0))  # bytes, and where in them the sync byte 0x47 is


def is_cut_off(path: Path) -> bool:
    """Whether the file ends before its last picture does; False where that is unknown."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        if head[4:8] in ISO_BOXES:
            return _iso_cut_off(file, size)
        if head[:4] == EBML:
            return _mkv_cut_off(file, size)
        if head[:4] == b"RIFF":
            return _avi_cut_off(file, size)
        for length, at in TS_PACKETS:
            if head[at::length][:3] == b"\x47\x47\x47":
                return size % length != 0
    return False


def _read_at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _iso_cut_off(file: BinaryIO, size: int) -> bool:
    offset = announced_end = 0
    kind = b""
    has_fragments = False
    while offset + 8 <= size:
        head = _read_at(file, offset, 16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 0:  # to the end of the file
            return False
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(head[8:16], "big")
        if length < 8:
            return False  # damage, not a cut
        has_fragments = has_fragments or kind == b"moof"
        if kind == b"sidx" and not has_fragments:
            announced_end = offset + length + _sidx_bytes(_read_at(file, offset, min(length, 2**20)))
        offset += length
    if offset > size:
        return kind not in ISO_AFTER
    if not has_fragments:
        return False
    begun = _read_at(file, offset, 8)  # less than a box's head
    begins_fragment = begun != b"" and any(name.startswith(begun[4:]) for name in ISO_FRAGMENT)
    return kind == b"moof" or begins_fragment or announced_end > size


def _sidx_bytes(box: bytes) -> int:
    """How many bytes of fragments a segment index lists, those before the first one included."""
    is_long = box[8:9] == b"\x01"
    first_offset = int.from_bytes(box[28:36] if is_long else box[24:28], "big")
    begin = 40 if is_long else 32
    entries = (box[at : at + 4] for at in range(begin, len(box) - 11, 12))
    return first_offset + sum(int.from_bytes(entry, "big") & 0x7FFFFFFF for entry in entries)


def _mkv_elements(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int | None]]:
    """(Id, start of the content, its end) of the elements.

    The segment, and a cluster of unknown length, are followed by their content. The end is None where the
    length is unknown. The last element has the id b"" if its head is cut short.
    """
    offset = 0
    while offset < size:
        head = _read_at(file, offset, 12)
        id_length = 9 - head[0].bit_length()
        if id_length > 4:
            return  # damage, not a cut
        rest = head[id_length:]
        vint_length = 9 - rest[0].bit_length() if rest else 9
        if len(rest) < min(vint_length, 8):
            yield b"", size, size + 1
            return
        if vint_length > 8:
            return
        value = int.from_bytes(rest[:vint_length], "big") & ((1 << 7 * vint_length) - 1)
        start = offset + id_length + vint_length
        end = None if value == (1 << 7 * vint_length) - 1 else start + value
        yield head[:id_length], start, end
        offset = start if end is None or head[:id_length] == SEGMENT else end


def _mkv_cut_off(file: BinaryIO, size: int) -> bool:
    segment_start, segment_end, cues_at = 0, 0, None
    has_clusters = done = False
    last_end = 0
    for kind, start, end in _mkv_elements(file, size):
        if kind == SEGMENT:
            segment_start, segment_end = start, end or 0
            continue
        if kind == SEEK_HEAD and end is not None:
            cues_at = _cues_position(_read_at(file, start, min(end - start, 4096)))
        has_clusters = has_clusters or kind == CLUSTER
        done = has_clusters and kind in MKV_AFTER
        if end is not None and end > size:
            return not (done or (kind == b"" and cues_at is not None and segment_start + cues_at <= last_end))
        last_end = end if end is not None else start
    if done or segment_end <= size:
        return False
    return cues_at is None or segment_start + cues_at > size


def _cues_position(seek_head: bytes) -> int | None:
    """Where the cues are, in bytes from the start of the segment's content."""
    found = re.search(b"(?s)\x53\xab\x84" + CUES + b"\x53\xac([\x81-\x88])(.{8})", seek_head + bytes(8))
    return int.from_bytes(found[2][: found[1][0] & 0x0F], "big") if found else None


def _avi_cut_off(file: BinaryIO, size: int) -> bool:
    offset = 0
    has_pictures = False
    while offset + 8 <= size:
        head = _read_at(file, offset, 12)
        kind, length = head[:4], int.from_bytes(head[4:8], "little")
        is_movie = kind == b"LIST" and head[8:12] == b"movi"
        has_pictures = has_pictures or is_movie
        if kind == b"RIFF" or (is_movie and length in (0, 0xFFFFFFFF)):  # recording not finished: look inside
            offset += 12
            continue
        end = offset + 8 + length
        if end > size:
            return is_movie or kind[2:] in (b"dc", b"db") or not has_pictures
        offset = end + length % 2
    return not has_pictures
