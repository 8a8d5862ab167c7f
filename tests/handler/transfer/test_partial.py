"""Bytes on disk: counted, thrown away, and gone on with by a later run."""

import hashlib

import pytest

from handler.transfer.partial import PartialFile


@pytest.mark.parametrize(
    ("source", "version", "note", "kept"),
    [
        ("here", '"a"', None, True),
        ("elsewhere", '"a"', None, False),
        (None, '"a"', None, False),
        ("here", None, None, False),
        ("here", '"a"', b"[1]", False),
        ("here", '"a"', b"\xff{", False),
    ],
    ids=["same source", "another source", "not asked for", "no version", "strange note", "broken note"],
)
def test_later_run_goes_on_with_the_same_version_of_the_same_source(tmp_path, source, version, note, kept):
    """Only bytes whose source and version are known are kept, and they are hashed with the rest."""
    with PartialFile(tmp_path / "f", reserve_bytes=0, source="here") as partial:
        partial.describe(version, 8)
        partial.write(b"1234")
    if note is not None:
        (tmp_path / "f.json").write_bytes(note)

    with PartialFile(tmp_path / "f", reserve_bytes=0, source=source) as partial:
        assert (partial.size, partial.version) == ((4, '"a"') if kept else (0, None))
        partial.write(b"5678")
        assert partial.sha256 == hashlib.sha256(b"12345678" if kept else b"5678").hexdigest()
        partial.discard()
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "f.json"])
