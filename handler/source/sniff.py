"""What a file that is no video is instead, told from its first bytes. Knows nothing of decoding.

This makes refusals helpful. What keeps disguised playlists out is the format list in `container.py`.
"""

import re
from pathlib import Path

HEAD_BYTES = 4096

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (rb"\x89PNG", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8", "a GIF image"),
    (rb"RIFF....WEBP", "a WebP image"),
    (rb"II\*\0|MM\0\*", "a TIFF image"),
    (rb"....ftyp(heic|heix|heim|heis|mif1|avif)", "a still image (HEIF or AVIF)"),
    (rb"ID3|\xff[\xfb\xf3\xf2]", "an MP3 audio file"),
    (rb"RIFF....WAVE", "a WAV audio file"),
    (rb"fLaC", "a FLAC audio file"),
    (rb"OggS", "an Ogg file"),
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"#EXTM3U|ffconcat|v=0\r?\n|\s*<MPD|\[playlist\]", "a playlist; send the video file itself"),
    (rb"\s*<(?i:!doctype html|html)", "a web page; the link may need a login"),
    (rb"\s*<\?xml|\s*<Error", "an XML document; the store may have answered with an error"),
    (rb"\s*[{\[]\s*[\"\]}]", "a JSON document"),
)


def what_else(path: Path) -> str | None:
    """What the file is if it is clearly no video, in words; None if it may be one."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        return "empty"
    for pattern, words in _SIGNATURES:
        if re.match(b"(?s:" + pattern + b")", head):
            return words
    return "a text file" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    try:
        text = head[: HEAD_BYTES - 4].decode()  # a character may be cut at the very end
    except UnicodeDecodeError:
        return False
    return not any(ord(character) < 32 and character not in "\t\n\r\f" for character in text)
