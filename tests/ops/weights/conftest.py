"""What tests of the store share: a store to fill, sources on loopback, settings that wait for nothing."""

import ssl
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model_cache.settings import ModelSettings
from ops.weights.fetch import fetch
from ops.weights.settings import WeightSettings
from tests.http_source import HttpSource, http_source

DETECTOR = "tiny-detector"


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, name: str, done: int, total: int | None) -> None:
        assert total is None or done <= total


@pytest.fixture
def heard() -> Heard:
    """What a listener hears."""
    return Heard()


@pytest.fixture
def https() -> Iterator[HttpSource]:
    """A server with a certificate that nobody but `ca_file` trusts."""
    with http_source(tls=True) as source:
        yield source


@pytest.fixture
def settings(https, tmp_path) -> Callable[..., WeightSettings]:
    """Settings that trust `https`, wait for nothing, and ask no host of the authors."""
    assert https.ssl_context is not None
    (certificate,) = https.ssl_context.get_ca_certs(binary_form=True)
    ca_file = tmp_path / "authority.pem"
    ca_file.write_text(ssl.DER_cert_to_PEM_cert(certificate))
    default = {
        "ca_file": ca_file,
        "retry_seconds": 0,
        "attempts": 2,
        "reserve_disk_bytes": 0,
        "official_hosts": False,
        "read_seconds": 5,
    }

    def make(**changes: object) -> WeightSettings:
        return WeightSettings(**(default | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(tmp_path) -> Path:
    """Where `run_fetch` puts its files."""
    return tmp_path / "store"


@pytest.fixture
def run_fetch(store, settings, heard) -> Callable[..., list[str]]:
    """`run_fetch(...)` fetches the UV map, or what `parts` or `engines` names, with the given settings."""

    def run(
        *,
        engines=("official",),
        parts=("uv_map",),
        keep_official=True,
        caches=(),
        detector=DETECTOR,
        upstream_detector="native",
        **changes: object,
    ) -> list[str]:
        models = ModelSettings(model_store=store, detector=detector, upstream_detector=upstream_detector)
        asked = {"engines": engines, "parts": parts, "keep_official": keep_official}
        return fetch(models, settings(**changes), heard, caches=caches, **asked)

    return run


@pytest.fixture
def uv_files(official_tiny_files) -> tuple[bytes, bytes]:
    """Contents of bmap_256.npy and fmap_256.npy: the smallest model's files."""
    folder = official_tiny_files / "phalp"
    return (folder / "bmap_256.npy").read_bytes(), (folder / "fmap_256.npy").read_bytes()


@pytest.fixture(scope="session")
def hmr2_archive(official_tiny_files, tmp_path_factory) -> Path:
    """hmr2_data.tar.gz as 4D-Humans publishes it: everything but SMPL."""
    path = tmp_path_factory.mktemp("archive") / "hmr2_data.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(
            official_tiny_files / "hmr2",
            arcname=".",
            filter=lambda member: None if "SMPL_NEUTRAL" in member.name else member,
        )
    return path
