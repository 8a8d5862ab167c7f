"""Fetching from an https server with faults, from mirrors, folders and archives, into a converted store."""

import io
import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from model_cache.errors import StoreUnavailable, WeightsInvalid, WeightsMissing
from model_cache.store.body_files import read_body
from model_cache.store.files import sha256_of
from model_cache.store.load import load_hmr2
from model_cache.store.manifest import OFFICIAL_FILES, UPSTREAM_DETECTORS
from model_cache.upstream.networks import find_official
from ops.weights import fetch as fetching
from ops.weights.lock import read_lock
from ops.weights.settings import LOCK_FILE
from tests.http_source import Fault, http_source
from tests.ops.weights.conftest import DETECTOR

BMAP, FMAP = "bmap_256.npy", "fmap_256.npy"


@pytest.fixture
def uv_mirror(uv_files, https):
    """`uv_mirror(*faults)` serves both files, the first with faults; returns their folder's address."""

    def serve(*faults: Fault, source=https) -> str:
        source.add(f"m/{BMAP}", uv_files[0], *faults)
        source.add(f"m/{FMAP}", uv_files[1])
        return source.url("m")

    return serve


def test_fetch_takes_archive_loose_files_and_smpl_and_converts_all(
    official_tiny_files, hmr2_archive, official_tiny_store, https, run_fetch, store
):
    """An archive, a mirror of loose files and the operator's SMPL make the same store as a folder does."""
    for path in (official_tiny_files / "phalp").rglob("*.*"):
        https.add(f"phalp/{path.name}", path)
    archive = https.add("shared/hmr2_data.tar.gz", hmr2_archive)
    smpl = official_tiny_files / "hmr2" / "data" / "smpl" / "SMPL_NEUTRAL.pkl"
    chosen = {"mirror": https.url("phalp"), "hmr2_data": f"{archive}?signature=geheim", "smpl": str(smpl)}
    parts = ("hmr2", "smpl", "appearance", "pose_predictor", "uv_map")
    assert run_fetch(**chosen, parts=parts) == list(parts)
    for path in official_tiny_store.glob("*.safetensors"):
        assert sha256_of(store / path.name) == sha256_of(path)
    load_hmr2(store)
    # The archive was fetched once for its three files, and nothing is left on the way.
    assert [r.path.partition("?")[0] for r in https.requests].count("/shared/hmr2_data.tar.gz") == 1
    assert not (store / "partial").exists()
    locked = read_lock(store / LOCK_FILE).files
    assert set(locked) == {file.role for file in OFFICIAL_FILES}
    assert locked["smpl"].sha256 == sha256_of(smpl)
    # A second run has nothing to do and asks nobody.
    asked = len(https.requests)
    assert run_fetch(**chosen, parts=parts) == []
    assert len(https.requests) == asked


def test_host_that_cuts_every_connection_is_outlasted(uv_mirror, uv_files, run_fetch):
    """Attempts are counted only while they bring nothing, so many cuts do not end a fetch."""
    faults = [Fault(cut_after=len(uv_files[0]) // 12)] * 11  # five times the allowed attempts
    assert run_fetch(mirror=uv_mirror(*faults)) == ["uv_map"]


def test_later_run_goes_on_where_the_earlier_one_gave_up(uv_files, https, run_fetch, store):
    """Bytes that came before a run failed are not fetched again, though the link was signed anew."""
    cut = len(uv_files[0]) // 2
    address = https.add("b", uv_files[0], Fault(cut_after=cut), *[Fault(status=503)] * 3)
    https.add("f", uv_files[1])
    with pytest.raises(WeightsMissing, match=r"WEIGHTS_UV_BARYCENTRIC \(127.0.0.1\) answered HTTP 503"):
        run_fetch(uv_barycentric=f"{address}?sig=1", uv_faces=https.url("f"))
    (part,) = (store / "partial").glob("*.part")
    assert part.read_bytes() == uv_files[0][:cut]
    assert run_fetch(uv_barycentric=f"{address}?sig=2", uv_faces=https.url("f")) == ["uv_map"]
    assert https.requests[-1].headers["range"] == f"bytes={cut}-"


def test_corrupted_source_is_passed_over_for_the_next(uv_mirror, https, run_fetch, heard):
    """A source whose file is not the kind of file it should be is told of, and the next is asked."""
    bad = https.add("bad", b"<html>please log in</html>")
    mirror = uv_mirror()
    assert run_fetch(uv_barycentric=bad, mirror=mirror) == ["uv_map"]
    assert any("WEIGHTS_UV_BARYCENTRIC" in text and "web page" in text for text in heard.said)


def test_damaged_checkpoint_is_noticed_at_the_first_fetch(official_tiny_files, https, run_fetch, store):
    """A flipped bit in a checkpoint fails its own checksums even when no hash is known yet."""
    good = (official_tiny_files / "phalp" / "weights" / "hmar_v2_weights.pth").read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 0x10
    https.add("m/hmar_v2_weights.pth", good)
    chosen = {"appearance_checkpoint": https.add("bad.pth", bytes(bad)), "mirror": https.url("m")}
    assert run_fetch(**chosen, parts=("appearance",)) == ["appearance"]
    assert read_lock(store / LOCK_FILE).files["appearance_checkpoint"].bytes == len(good)


def test_file_other_than_recorded_is_refused(uv_mirror, uv_files, https, run_fetch, tmp_path, store):
    """Once a hash is recorded, another file of the right kind is passed over; none left fails."""
    mirror = uv_mirror()
    run_fetch(mirror=mirror)
    lock = tmp_path / "shared.lock.json"
    shutil.copy(store / LOCK_FILE, lock)
    shutil.rmtree(store)
    swapped = bytearray(uv_files[0])
    swapped[-1] ^= 1
    bad = https.add("bad", bytes(swapped))
    assert run_fetch(uv_barycentric=bad, mirror=mirror, lock=lock) == ["uv_map"]
    shutil.rmtree(store)
    with pytest.raises(WeightsMissing, match=r"another file than the one recorded in shared\.lock\.json"):
        run_fetch(uv_barycentric=bad, uv_faces=f"{mirror}/{FMAP}", lock=lock)


def test_what_can_be_had_is_converted_when_something_is_missing(uv_mirror, run_fetch, store):
    """One missing file keeps no other model out of the store, and the message names it alone."""
    mirror = uv_mirror()
    with pytest.raises(WeightsMissing) as caught:
        run_fetch(mirror=mirror, parts=("uv_map", "appearance"))
    assert (store / "uv_map.safetensors").is_file()
    message = str(caught.value)
    assert message.startswith("1 of 3 files could not be had; the others are in the store\n- hmar_v2")
    assert "WEIGHTS_APPEARANCE_CHECKPOINT=URL-or-path python -m handler weights fetch" in message


def test_smpl_is_taken_from_the_operator_alone(official_tiny_files, https, run_fetch, monkeypatch):
    """Not from an official host's archive that should hold it; the refusal says where it is and its terms."""
    smpl = official_tiny_files / "hmr2" / "data" / "smpl" / "SMPL_NEUTRAL.pkl"
    regressor = smpl.parent.parent / "SMPL_to_J19.pkl"
    address = https.add(
        "hmr2_data.zip", zipped({"data/SMPL_to_J19.pkl": regressor, "SMPL_NEUTRAL.pkl": smpl})
    )
    file = replace(fetching.FILES_BY_ROLE["joint_regressor"], addresses=(address,))
    monkeypatch.setattr(fetching, "FILES_BY_ROLE", {**fetching.FILES_BY_ROLE, "joint_regressor": file})
    with pytest.raises(WeightsMissing) as caught:
        run_fetch(official_hosts=True, parts=("smpl",))
    message = str(caught.value)
    for words in (
        "SMPL_NEUTRAL.pkl: no source of it is set",
        "register at https://smpl.is.tue.mpg.de",
        "https://smpl.is.tue.mpg.de/modellicense.html",
        "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl",
        "WEIGHTS_SMPL=/path/to/it",
    ):
        assert words in message
    # The same archive, named by the operator, does give it.
    assert run_fetch(smpl=address, parts=("smpl",)) == ["smpl"]


def zipped(files):
    """A zip archive's bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, path in files.items():
            archive.write(path, name)
    return content.getvalue()


def test_smpl_as_npz_from_a_nameless_link_keeps_its_kind(
    official_tiny_files, official_tiny_store, https, run_fetch, tmp_path, store
):
    """SMPL comes as .pkl and .npz, and a shared link tells neither: the content does."""
    data = official_tiny_files / "hmr2" / "data"
    body = read_body(official_tiny_store / "smpl.safetensors")
    path = tmp_path / "body.npz"
    fields = {"f": body.faces, "J_regressor": body.joint_regressor, "weights": body.lbs_weights}
    fields |= {"v_template": body.v_template, "shapedirs": body.shapedirs, "posedirs": body.posedirs}
    parents = body.parents.copy()
    np.savez(path, kintree_table=np.stack((parents, np.arange(24))), **fields)
    link = https.add("download", path)
    chosen = {"smpl": f"{link}?id=1aB", "joint_regressor": str(data / "SMPL_to_J19.pkl")}
    assert run_fetch(**chosen, parts=("smpl",)) == ["smpl"]
    assert (store / "official/4DHumans/data/smpl/SMPL_NEUTRAL.npz").is_file()
    made = store / "smpl.safetensors"
    assert sha256_of(made) == sha256_of(official_tiny_store / "smpl.safetensors")


def test_no_secret_of_a_source_is_ever_said(uv_files, https, run_fetch, heard, store):
    """Neither messages nor files of the store hold a source's path or query."""
    address = https.add("geheim-pfad", uv_files[0], always=Fault(status=403))
    with pytest.raises(WeightsMissing) as caught:
        run_fetch(uv_barycentric=f"{address}?X-Amz-Signature=geheim", uv_faces="/geheim/f")
    kept = [p.read_text(errors="replace") for p in (store).rglob("*") if p.is_file()]
    for text in (str(caught.value), *heard.said, *kept):
        assert "geheim" not in text


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(status=404), "has no such file"),
        (Fault(status=403), "expired, not public, or moved"),
        (Fault(status=500), "answered HTTP 500"),
        (Fault(stall_after=100), "fell silent"),
        (Fault(redirect="http://127.0.0.1:1/x"), "not https"),
        (Fault(redirect="https://127.0.0.1:1/x"), "cannot be reached"),
    ],
    ids=["gone", "denied", "broken", "stalled", "downgrade", "refused"],
)
def test_failures_are_told_in_words(uv_files, https, run_fetch, fault, words):
    """Each way in which a source fails has its sentence."""
    address = https.add("b", uv_files[0], always=fault)
    https.add("f", uv_files[1])
    chosen = {"uv_barycentric": address, "uv_faces": https.url("f"), "read_seconds": 0.3}
    with pytest.raises(WeightsMissing, match=words):
        run_fetch(**chosen)


@pytest.mark.parametrize(
    "mirror", ["https://[bad", "https://", "s3://[bad", "s3://", "file:///nowhere", r"C:\nowhere"]
)
def test_mirror_that_is_none_is_told_as_such(run_fetch, monkeypatch, mirror):
    """Whatever stands in WEIGHTS_MIRROR ends in a sentence on each file that it should have."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"WEIGHTS_S3_{name}", "key")
    with pytest.raises(WeightsMissing, match=r"2 of 2 files could not be had\n- bmap_256\.npy: WEIGHTS_MIR"):
        run_fetch(mirror=mirror)


@pytest.mark.parametrize(
    ("content", "words"),
    [("text", "holds no certificate in PEM form"), (None, "cannot be read: No such file")],
)
def test_file_of_authorities_that_is_none_is_blamed_itself(run_fetch, tmp_path, content, words):
    """Not the store, and before anything is fetched."""
    path = tmp_path / "ca.pem"
    if content:
        path.write_text(content)
    with pytest.raises(WeightsInvalid, match=f"WEIGHTS_CA_FILE={path} {words}"):
        run_fetch(ca_file=path)


def test_untrusted_certificate_is_refused_with_the_setting_that_helps(uv_mirror, https, run_fetch):
    """A certificate of an unknown authority is not accepted, and not asked again."""
    with pytest.raises(WeightsMissing, match="WEIGHTS_CA_FILE"):
        run_fetch(mirror=uv_mirror(), ca_file=None)
    assert https.requests == []


def test_plain_http_needs_the_operators_word(uv_mirror, run_fetch):
    """Without a setting that allows it, http is refused."""
    with http_source() as source:
        mirror = uv_mirror(source=source)
        with pytest.raises(WeightsMissing, match="WEIGHTS_ALLOW_HTTP"):
            run_fetch(mirror=mirror)
        assert source.requests == []
        assert run_fetch(mirror=mirror, allow_http=True) == ["uv_map"]


def test_folder_and_official_caches_are_used_first(official_tiny_files, run_fetch, tmp_path, https, store):
    """Files on a mounted folder, or where the official packages keep theirs, are not downloaded."""
    cache = tmp_path / "cache"
    (cache / "phalp" / "3D").mkdir(parents=True)
    shutil.copy(official_tiny_files / "phalp" / BMAP, cache / "phalp" / "3D")
    volume = tmp_path / "volume"
    (volume / DETECTOR).mkdir(parents=True)
    shutil.copy(official_tiny_files / "phalp" / FMAP, volume)
    (volume / DETECTOR / "config.json").write_text("{}")
    (volume / DETECTOR / "model.safetensors").write_bytes(tiny_safetensors())
    assert run_fetch(mirror=str(volume), caches=(cache,), parts=("uv_map", "detector")) == ["uv_map"]
    assert (store / DETECTOR / "model.safetensors").is_file()
    assert https.requests == []


def test_full_disk_is_told_before_it_is_full(uv_mirror, run_fetch, monkeypatch):
    """With too little room nothing is written but a clear sentence; what came is kept."""
    mirror = uv_mirror()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    with pytest.raises(StoreUnavailable, match="0 MiB free, 1 MiB are needed: make room"):
        run_fetch(mirror=mirror)


def test_store_that_cannot_be_written_is_told_in_words(run_fetch, store):
    """A file where the store should be is a sentence."""
    (store).write_text("")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        run_fetch()


def test_discarding_keeps_the_converted_store_alone(uv_mirror, run_fetch, store):
    """With keep_official=False the official files go once they are converted, the lock stays."""
    mirror = uv_mirror()
    run_fetch(mirror=mirror, keep_official=False)
    left = {path.name for path in (store).iterdir()}
    assert left - {".writer.lock"} == {"store.json", "uv_map.safetensors", LOCK_FILE}


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_detector_comes_from_the_hub_and_stays_at_its_first_commit(https, run_fetch, store):
    """The branch's commit is recorded with the first file, and every later request names the commit."""
    config, weights = b'{"model_type": "rf_detr"}', tiny_safetensors()
    commit = Fault(headers={"X-Repo-Commit": COMMIT})
    base = f"Roboflow/{DETECTOR}/resolve"
    https.add(f"{base}/main/config.json", config, always=commit)
    https.add("cdn/abc", weights)
    moved = Fault(redirect=https.url("cdn/abc"), headers={"X-Repo-Commit": COMMIT})
    https.add(f"{base}/{COMMIT}/model.safetensors", b"", always=moved)
    chosen = {"official_hosts": True, "hub_url": https.url("").rstrip("/")}
    assert run_fetch(**chosen, parts=("detector",)) == []
    folder = store / DETECTOR
    assert (folder / "config.json").read_bytes() == config
    assert (folder / "model.safetensors").read_bytes() == weights
    lock = json.loads((store / LOCK_FILE).read_text())
    assert lock["revisions"] == {f"Roboflow/{DETECTOR}@main": COMMIT}
    assert set(lock["files"]) == {f"{DETECTOR}/config.json", f"{DETECTOR}/model.safetensors"}
    (folder / "config.json").unlink()
    https.add(f"{base}/{COMMIT}/config.json", config, always=commit)
    run_fetch(**chosen, parts=("detector",))
    assert https.requests[-1].path == f"/{base}/{COMMIT}/config.json"


@pytest.mark.parametrize("detector", ["movenet-multipose", "my_package.people:Finder"])
def test_detector_that_needs_no_files_is_not_fetched(run_fetch, https, detector):
    """Neither the bundled detector nor one's own is sought on the hub."""
    run_fetch(official_hosts=True, hub_url=https.url("").rstrip("/"), parts=("detector",), detector=detector)
    assert https.requests == []


def tiny_safetensors() -> bytes:
    """A file of one tensor."""
    return save({"weight": np.zeros(4, np.float32)})


def test_upstream_engine_gets_the_official_files_as_they_are(official_tiny_files, run_fetch, tmp_path, store):
    """The official packages' engine reads the files themselves: they come, with its detector, unconverted."""
    detector = tmp_path / "model_final_ef3a80.pkl"
    detector.write_bytes(b"\x80\x04]\x94.")
    chosen = {"mirror": str(official_tiny_files), "upstream_maskrcnn": str(detector)}
    assert run_fetch(**chosen, engines=("upstream",), upstream_detector="maskrcnn") == []
    for file in (*OFFICIAL_FILES, UPSTREAM_DETECTORS["maskrcnn"]):
        assert (store / "official" / file.path).is_file()
    assert set(find_official(store, ())) == {file.role for file in OFFICIAL_FILES}
    assert list(store.glob("*.safetensors")) == []


def test_silent_host_is_tried_once_for_each_further_file(https, run_fetch):
    """So that a fetch without a network ends soon, and still says of each file what was wrong."""
    for name in (BMAP, FMAP):
        https.add(f"m/{name}", b"", always=Fault(status=503))
    with pytest.raises(WeightsMissing, match=r"bmap_256.npy.*503(.|\n)*fmap_256.npy.*503"):
        run_fetch(mirror=https.url("m"), attempts=3)
    asked = [request.path for request in https.requests]
    assert [sum(name in path for path in asked) for name in (BMAP, FMAP)] == [3, 1]
