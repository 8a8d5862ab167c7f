"""What tests of whole jobs share."""

import io
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog

from handler.scratch import Scratch
from tests.fault_proxy import FaultProxy, fault_proxy
from tests.handler.rig import Rig, make_clip
from tests.http_source import HttpSource, http_source
from tests.s3_server import S3Server, s3_server


@pytest.fixture(scope="session")
def clip_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip of `boxes_of`."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="session")
def bucket_of_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for all whole jobs; each test uses its own job ids."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Another one, for tests of the results alone; every test has its own prefix."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    """A faithful proxy in front of it, until told otherwise."""
    with fault_proxy(s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def server() -> Iterator[HttpSource]:
    """A running HTTP server of its own for each test."""
    with http_source() as running:
        yield running


@pytest.fixture(scope="session")
def pose_predictor_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """`pose_predictor_of("tiny")` is the golden predictor of that name, converted from official files."""
    import torch  # which most tests here do without

    from model_cache.networks.pose_predictor import TransformerPosePredictor
    from tests.weight_rule import golden_pose_transformer

    def predictor(name: str) -> TransformerPosePredictor:
        network = golden_pose_transformer(tmp_path_factory.mktemp(name), name)
        return TransformerPosePredictor(network, torch.device("cpu"))

    return cache(predictor)


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Addresses by host name; one without any cannot be resolved. The system answers for all other names."""
    found: dict[str, list[str]] = {}
    system = socket.getaddrinfo

    def look_up(host: str, port: int, *args: int, **more: int) -> list[tuple]:
        if found.get(host) == []:
            raise socket.gaierror(socket.EAI_NONAME, "SECRET")
        return [
            entry for address in found.get(host, [host]) for entry in system(address, port, *args, **more)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return found


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Whatever a test does to the logging set-up is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def rig(
    clip_of_two: Path,
    bucket_of_jobs: S3Server,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    own_logging: None,
) -> Iterator[Rig]:
    """Everything around a job, checked for leftovers and leaks afterwards."""
    scratch = Scratch(tmp_path / "scratch")
    with HttpSource() as source, closing(scratch):
        rig = Rig(source, bucket_of_jobs, scratch, clip_of_two, io.StringIO())
        yield rig
        rig.assert_nothing_left("".join(capfd.readouterr()))
