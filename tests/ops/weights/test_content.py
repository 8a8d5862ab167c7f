"""Archives, honest and hostile: only wanted plain files come out, and only where we put them."""

import gzip
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from handler.transfer.errors import TransferError
from model_cache.store.manifest import OFFICIAL_FILES
from ops.weights import content as unpacking
from ops.weights.content import archive_kind, unpack
from ops.weights.locations import SourceFailed

WANTED = OFFICIAL_FILES
CONTENT = b"bytes of a checkpoint" * 100


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    """A tar member's head."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    """A tar archive."""
    with tarfile.open(path, mode) as archive:
        for info, content in members:
            info.size = len(content) or info.size
            archive.addfile(info, io.BytesIO(content))
    return path


def take(path: Path, into: Path) -> dict[str, Path]:
    """Unpacks what is wanted."""
    into.mkdir(exist_ok=True)
    return unpack(path, archive_kind(path, WANTED), WANTED, into, reserve_bytes=0)


@pytest.mark.parametrize(
    "name",
    [
        "../../bmap_256.npy",
        "/etc/bmap_256.npy",
        "a/../../../bmap_256.npy",
        "..\\..\\bmap_256.npy",
        "./bmap_256.npy",
    ],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_member_names_cannot_leave_the_folder(tmp_path, name, kind):
    """Whatever path a member claims, it lands in the folder under a name of ours."""
    path = tmp_path / "archive"
    if kind == "tar":
        tar(path, (member(name), CONTENT))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, CONTENT)
    before = set(tmp_path.parent.rglob("*"))
    found = take(path, tmp_path / "into")
    assert found["uv_barycentric"].parent == tmp_path / "into"
    assert found["uv_barycentric"].read_bytes() == CONTENT
    new = set(tmp_path.parent.rglob("*")) - before
    assert new == {tmp_path / "into", found["uv_barycentric"]}


@pytest.mark.parametrize(
    ("kind", "link"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "../../secret"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
        (None, "/etc/passwd"),
    ],
    ids=["symlink", "hardlink", "device", "fifo", "folder", "zipped-symlink"],
)
def test_links_and_devices_are_not_taken(tmp_path, kind, link):
    """Only plain files count, even under a wanted name; zip archives hold links as files with a mode."""
    path = tmp_path / "archive"
    if kind is None:
        entry = zipfile.ZipInfo("bmap_256.npy")
        entry.external_attr = 0o120777 << 16
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, link)
    else:
        tar(path, (member("bmap_256.npy", kind, link=link), b""))
    assert take(path, tmp_path / "into") == {}
    assert list((tmp_path / "into").iterdir()) == []


def test_bomb_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    """A member that would unpack to more than any weights, or than fits, is not written."""
    path = tar(tmp_path / "a.tar", (member("bmap_256.npy"), bytes(5000)), mode="w")
    monkeypatch.setattr(unpacking, "MAX_MEMBER_BYTES", 4000)
    with pytest.raises(SourceFailed, match="would unpack to"):
        take(path, tmp_path / "into")
    monkeypatch.undo()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4000))
    with pytest.raises(TransferError, match="0 MiB free"):
        take(path, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_more_members_than_any_download_has_are_refused(tmp_path, monkeypatch):
    """A tar of endless members ends the reading."""
    path = tar(tmp_path / "a.tar", *((member(str(n)), b"") for n in range(6)))
    monkeypatch.setattr(unpacking, "MAX_MEMBERS", 5)
    with pytest.raises(SourceFailed, match="more than 5 members"):
        take(path, tmp_path / "into")


@pytest.mark.parametrize("damage", ["cut", "flipped", "checksum", "garbage"])
def test_damaged_archive_is_refused(tmp_path, damage):
    """A cut or changed archive gives nothing, thanks to its own checksums."""
    path = tar(tmp_path / "a.tar.gz", (member("bmap_256.npy"), bytes(range(256)) * 2000))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        plain = bytearray(gzip.decompress(content))
        good = gzip.compress(bytes(plain), mtime=0)
        plain[1000] ^= 1
        content = bytearray(gzip.compress(bytes(plain), mtime=0))
        content[-8:] = good[-8:]  # the checksum of what it was
    elif damage == "checksum":
        content[-6] ^= 1
    else:
        content[20:] = b"\x00" * 200
    path.write_bytes(content)
    with pytest.raises(SourceFailed, match="broken"):
        take(path, tmp_path / "into")


def test_copies_are_fine_and_different_files_of_one_name_are_not(tmp_path):
    """An archive of a whole cache holds copies; two versions need the operator's word."""
    same = [(member(f"{folder}/SMPL_to_J19.pkl"), CONTENT) for folder in ("phalp", "4DHumans")]
    assert take(tar(tmp_path / "a", *same), tmp_path / "into")["joint_regressor"].read_bytes() == CONTENT
    same[1] = (member("4DHumans/SMPL_to_J19.pkl"), CONTENT + b"!")
    with pytest.raises(SourceFailed, match=r"different files that go as SMPL_to_J19\.pkl"):
        take(tar(tmp_path / "b", *same), tmp_path / "into")


def test_preferred_name_wins_wherever_it_stands(tmp_path):
    """SMPL_NEUTRAL.pkl comes before the names of the site's own zip."""
    smpl = [
        (member("basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"), b"old"),
        (member("SMPL_NEUTRAL.pkl"), b"new"),
    ]
    for order in (smpl, smpl[::-1]):
        path = tar(tmp_path / "a", *((member(info.name), content) for info, content in order))
        assert take(path, tmp_path / "into")["smpl"].read_bytes() == b"new"


def test_checkpoints_and_npz_files_are_no_archives(tmp_path):
    """They are zips as well, but hold no file that is wanted."""
    path = tmp_path / "x"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
        archive.writestr("v_template.npy", b"")
    assert archive_kind(path, WANTED) == "file"
