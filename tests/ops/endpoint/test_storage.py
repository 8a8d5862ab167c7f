"""The S3 server beside the endpoint: whom it lets in, and what outlives it."""

import sys
from collections.abc import Iterator
from dataclasses import replace

import httpx2
import psutil
import pytest

from ops.endpoint import CannotServe
from ops.endpoint.keys import storage_keys
from ops.endpoint.storage import ObjectStore
from tests.s3_server import S3Server, of_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A running server with one bucket."""
    folder = tmp_path_factory.mktemp("store")
    with ObjectStore(folder / "objects", storage_keys(folder / "keys.json")) as store:
        yield store


@pytest.fixture(scope="module")
def s3(store: ObjectStore) -> S3Server:
    """Its client."""
    return of_store(store)


def server(store: ObjectStore) -> psutil.Process:
    """The store's own process."""
    (found,) = (child for child in psutil.Process().children() if str(store.folder) in child.cmdline())
    return found


def test_presigned_urls_write_and_read(store, s3):
    """A PUT with the signed content type, a GET of the same bytes; the object is a plain file."""
    url = s3.presign("put_object", "a/b.json", ContentType="application/json")
    assert httpx2.put(url, content=b"{}", headers={"Content-Type": "text/html"}).status_code == 403
    assert httpx2.put(url, content=b"{}", headers={"Content-Type": "application/json"}).status_code == 200
    assert httpx2.get(s3.presign("get_object", "a/b.json")).content == b"{}"
    assert (store.folder / store.bucket / "a/b.json").read_bytes() == b"{}"


def test_nobody_gets_in_without_a_signature(s3):
    """Unsigned, wrongly signed, signed for another method, expired."""
    s3.put("x", b"1")
    url = s3.presign("get_object", "x")
    assert httpx2.get(url.partition("?")[0]).status_code in (400, 403)
    assert httpx2.get(url[:-1] + ("0" if url[-1] != "0" else "1")).status_code == 403
    assert httpx2.put(url, content=b"2").status_code == 403
    assert httpx2.get(s3.presign("get_object", "x", expires_seconds=-10)).status_code in (400, 403)
    stranger = replace(s3, access_key_id="A" * 20, secret_access_key="b" * 30)
    assert httpx2.get(stranger.presign("get_object", "x")).status_code in (400, 403)


def test_keys_are_private_and_kept(tmp_path, store):
    """The same pair after a restart, readable by its owner only; shown neither by accident nor by `ps`."""
    keys = storage_keys(tmp_path / "keys.json")
    assert storage_keys(tmp_path / "keys.json") == keys != storage_keys(tmp_path / "other.json")
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    assert keys.secret_access_key not in repr(keys)
    arguments = " ".join(server(store).cmdline())
    assert ("rclone" in arguments, store.keys.secret_access_key in arguments) == (True, False)


def test_restarted_server_keeps_its_address_and_objects(tmp_path):
    """URLs that were handed out go on to work."""
    with ObjectStore(tmp_path / "objects", storage_keys(tmp_path / "keys.json")) as store:
        of_store(store).put("x", b"1")
        url = of_store(store).presign("get_object", "x")
        store.stop()
        assert not store.is_running()
        store.start()
        assert store.is_running()
        assert httpx2.get(url).content == b"1"
        second = ObjectStore(tmp_path / "other", store.keys, port=int(store.endpoint_url.rpartition(":")[2]))
        with pytest.raises(CannotServe, match="another port with --storage-port"):
            second.start()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_full_disk_refuses_an_object_and_nothing_else(store, s3):
    """A 5xx, which uploads try again; the server lives, and takes the object when there is room."""
    s3.put("before", b"1")
    process = server(store)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, psutil.RLIM_INFINITY))
    try:
        assert httpx2.put(s3.presign("put_object", "full"), content=b"x" * 100_000).status_code >= 500
        assert httpx2.get(s3.presign("get_object", "before")).content == b"1"
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    assert httpx2.get(s3.presign("get_object", "full")).status_code == 404
    assert httpx2.put(s3.presign("put_object", "full"), content=b"x" * 100_000).status_code == 200
