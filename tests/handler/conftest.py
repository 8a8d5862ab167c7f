"""What tests of whole jobs share."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.handler.rig import Rig, make_clip, make_rig
from tests.http_source import HttpSource
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
    with (
        HttpSource() as source,
        make_rig(source, bucket_of_jobs, tmp_path / "scratch", clip_of_two) as rig,
    ):
        yield rig
        rig.assert_nothing_left("".join(capfd.readouterr()))
