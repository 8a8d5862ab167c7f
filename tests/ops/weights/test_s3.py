"""Weights in a bucket, against a real S3 server."""

import pytest

from model_cache.errors import WeightsMissing
from ops.weights.settings import weight_storage
from tests.s3_server import s3_server

BMAP, FMAP = "bmap_256.npy", "fmap_256.npy"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The server, with a bucket `weights`."""
    with s3_server(tmp_path_factory.mktemp("s3"), bucket="weights") as server:
        yield server


@pytest.fixture
def credentials(s3, monkeypatch):
    """The server's, in the environment."""
    for name in ("endpoint_url", "access_key_id", "secret_access_key"):
        monkeypatch.setenv(f"WEIGHTS_S3_{name.upper()}", getattr(s3, name))


@pytest.mark.usefixtures("credentials")
def test_weights_come_from_a_bucket(s3, uv_files, run_fetch):
    """A mirror at s3://bucket/prefix serves files by name."""
    s3.put(f"models/{BMAP}", uv_files[0])
    s3.put(f"models/{FMAP}", uv_files[1])
    assert run_fetch(mirror="s3://weights/models", ca_file=None) == ["uv_map"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"WEIGHTS_S3_SECRET_ACCESS_KEY": "geheim"},
            r"refused the credentials \(WEIGHTS_S3_\* or BUCKET_\*\)",
        ),
        ({"WEIGHTS_S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be reached"),
        ({}, "has no such file"),
    ],
    ids=["wrong-key", "no-server", "no-object"],
)
@pytest.mark.usefixtures("credentials")
def test_failures_of_a_bucket_are_told_in_words(s3, monkeypatch, run_fetch, changes, words):
    """Each failure has its sentence, without keys or hosts."""
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WeightsMissing, match=words) as caught:
        run_fetch(uv_barycentric="s3://weights/nothing", ca_file=None)
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
