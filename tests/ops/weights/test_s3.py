"""Weights in a bucket, against a real S3 server."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from model_cache.errors import WeightsMissing
from ops.weights.answers import TryAgain
from ops.weights.download import download
from ops.weights.partial import Partial
from ops.weights.s3 import ask_s3, s3_client
from ops.weights.settings import WeightStorageSettings, weight_storage
from tests.s3_server import s3_server

BMAP, FMAP = "bmap_256.npy", "fmap_256.npy"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The server, with a bucket `weights`."""
    with s3_server(tmp_path_factory.mktemp("s3"), bucket="weights") as server:
        yield server


@pytest.fixture
def storage(s3):
    """`storage(...)`: credentials for the server."""

    def make(**changes: object) -> WeightStorageSettings:
        return WeightStorageSettings(
            **(
                {
                    "endpoint_url": s3.endpoint_url,
                    "access_key_id": s3.access_key_id,
                    "secret_access_key": s3.secret_access_key,
                }
                | changes
            )  # type: ignore[arg-type]
        )

    return make


def test_weights_come_from_a_bucket(s3, storage, uv_files, run_fetch):
    """A mirror at s3://bucket/prefix serves files by name."""
    s3.put(f"models/{BMAP}", uv_files[0])
    s3.put(f"models/{FMAP}", uv_files[1])
    assert run_fetch(mirror="s3://weights/models", ca_file=None, storage=storage) == ["uv_map"]


@pytest.mark.parametrize("changed", [False, True], ids=["same", "changed"])
def test_cut_download_from_a_bucket_is_resumed(s3, storage, uv_files, settings, tmp_path, changed):
    """After a break the rest alone is asked for; of an object that was replaced meanwhile, all of it."""
    s3.put(BMAP, uv_files[0])
    content = bytes(reversed(uv_files[0])) if changed else uv_files[0]
    real = ask_s3(s3_client(storage(), settings(ca_file=None)), f"s3://weights/{BMAP}")
    starts = []

    @contextmanager
    def ask(place, version):
        with real(place, version) as answer:
            starts.append(answer.start)
            yield replace(answer, chunks=broken(answer.chunks)) if len(starts) == 1 else answer

    def broken(chunks):
        yield next(iter(chunks))
        s3.put(BMAP, content)
        raise TryAgain("broke off")

    with Partial(tmp_path / "part", "s3://weights/b", reserve_bytes=0) as partial:
        download(ask, partial, settings(attempts=3), lambda *_: None)
    assert (tmp_path / "part").read_bytes() == content
    assert starts[0] == 0
    assert (starts[-1] > 0) is not changed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"secret_access_key": "geheim"}, r"refused the credentials \(WEIGHTS_S3_\* or BUCKET_\*\)"),
        ({"endpoint_url": "http://127.0.0.1:1"}, "cannot be reached"),
        ({}, "has no such object"),
    ],
    ids=["wrong-key", "no-server", "no-object"],
)
def test_failures_of_a_bucket_are_told_in_words(s3, storage, run_fetch, changes, words):
    """Each failure has its sentence, without keys or hosts."""
    with pytest.raises(WeightsMissing, match=words) as caught:
        run_fetch(uv_barycentric="s3://weights/nothing", ca_file=None, storage=lambda: storage(**changes))
    assert "geheim" not in str(caught.value)
    assert s3.access_key_id not in str(caught.value)


def test_credentials_are_the_weights_own_or_the_results(monkeypatch):
    """WEIGHTS_S3_* as a whole, else BUCKET_* as a whole: half of each would be nobody's."""
    monkeypatch.setenv("BUCKET_ENDPOINT_URL", "https://results.example")
    monkeypatch.setenv("BUCKET_SECRET_ACCESS_KEY", "b")
    assert weight_storage().endpoint_url == "https://results.example"
    monkeypatch.setenv("WEIGHTS_S3_ACCESS_KEY_ID", "w")
    assert weight_storage().endpoint_url is None
    assert weight_storage().secret_access_key is None
