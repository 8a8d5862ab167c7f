"""Files with keys: whole or not there, and refused when they are anything else."""

import errno
import os
import stat
from pathlib import Path

import pytest

from ops.endpoint import CannotServe
from ops.endpoint.keys import read_private, storage_keys, write_private
from ops.endpoint.registry import WorkerRegistry
from ops.endpoint.serve import ServeOptions, listening, run
from ops.endpoint.settings import LocalIntakeSettings, ServeSettings

WHOLE = '{"access_key_id": "ABCDEFGH", "secret_access_key": "abcdefgh"}'
TORN_PAIRS = [
    *(b"", b"\n", b"[]", b"null", b"{}", b"[" * 100_000, bytes(64)),
    *(WHOLE[:30].encode(), WHOLE[:-1].encode(), WHOLE.encode("utf-16")),
    WHOLE.replace("ABCDEFGH", "").encode(),
    WHOLE.replace("ABCDEFGH", 'A\\",\\"B').encode(),
    WHOLE.replace('"abcdefgh"', "7").encode(),
    b'{"access_key_id": "ABCDEFGH"}',
]
TORN_KEYS = [b"", b" \n", b"x" * 39, b"x" * 41, b"x" * 20 + b" " + b"x" * 19, b"\xff" * 40, bytes(40)]


@pytest.mark.parametrize("content", TORN_PAIRS, ids=range(len(TORN_PAIRS)))
def test_torn_storage_keys_are_refused(tmp_path, content):
    """Empty, cut off, of another shape, no text: a sentence names the file; the file is left as it is."""
    file = tmp_path / "storage-keys.json"
    file.write_bytes(content)
    with pytest.raises(CannotServe, match=r"storage-keys\.json is empty or damaged: .*delete it"):
        storage_keys(file)
    assert file.read_bytes() == content


@pytest.mark.parametrize("content", TORN_KEYS, ids=range(len(TORN_KEYS)))
def test_torn_worker_key_is_refused(tmp_path, content):
    """The endpoint does not start: an empty key would let everyone be a worker."""
    (tmp_path / "worker.key").write_bytes(content)
    with pytest.raises(CannotServe, match=r"worker\.key is empty or damaged: .*delete it"):
        run(ServeOptions(data=tmp_path), ServeSettings())
    (tmp_path / "worker.key").unlink()
    (tmp_path / "worker.key").mkdir()
    with pytest.raises(CannotServe, match=r"worker\.key cannot be read"):
        run(ServeOptions(data=tmp_path), ServeSettings())


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_full_disk_leaves_no_torn_file(tmp_path, monkeypatch, failing):
    """Neither a new file nor a changed one; the next try on a disk with room is like a first one."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    file = tmp_path / "a"
    for before in (None, "old"):
        with monkeypatch.context() as patch:
            patch.setattr(*((os, "fsync", full) if failing == "fsync" else (Path, "replace", full)))
            with pytest.raises(OSError, match="No space"):
                write_private(file, "new")
        assert read_private(file) == before
        assert [path.name for path in tmp_path.iterdir()] == (["a"] if before else [])
        write_private(file, "old")
    assert read_private(file) == "old"


def test_start_on_a_full_disk_leaves_no_key(tmp_path, monkeypatch):
    """What is there afterwards would be taken for a key by the next start."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotServe, match="No space left on device"):
        run(ServeOptions(data=tmp_path), ServeSettings())
    assert not (tmp_path / "worker.key").exists()


def test_files_are_private_and_left_overs_harmless(tmp_path):
    """Readable by the owner only, also if it was open before, or a crash left its half behind."""
    file = tmp_path / "a"
    (tmp_path / ".a.new").write_text("half")
    write_private(file, "key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    assert read_private(file) == "key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("key\r\n")  # an editor's line end
    assert read_private(file) == "key"
    assert read_private(tmp_path / "none") is None
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.anyio
async def test_endpoint_refuses_an_empty_worker_key(queue):
    """Every request without a key would carry it."""
    registry = WorkerRegistry(queue, ServeSettings())
    with pytest.raises(ValueError, match="empty"):
        async with listening(
            registry, ServeSettings(), LocalIntakeSettings(), worker_key="", host="127.0.0.1", port=0
        ):
            pass
