"""The weights commands as an operator meets them, in processes of their own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.http_source import Fault

BMAP, FMAP = "bmap_256.npy", "fmap_256.npy"


def start(store: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`python -m handler weights ARGUMENTS` on a store."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHTS_")}  # noqa: TID251 - for a process of its own
    return subprocess.Popen(
        [sys.executable, "-m", "handler", "weights", *arguments],
        env=kept | {"MODEL_STORE": str(store), "HOME": str(store.parent), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status, output, messages."""
    out, messages = process.communicate(timeout=60)
    return process.returncode, out, messages


def until(condition, seconds: float = 60) -> None:
    """Waits for something that other processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.fixture
def environment(https, settings):
    """Variables for a fetch from `https`."""
    return {
        "WEIGHTS_MIRROR": https.url("m"),
        "WEIGHTS_CA_FILE": str(settings().ca_file),
        "WEIGHTS_OFFICIAL_HOSTS": "false",
    }


def test_second_process_waits_and_takes_over_when_the_first_is_killed(uv_files, https, environment, tmp_path):
    """One process writes a store; killed in mid-file, its lock is free and its bytes serve the next."""
    store = tmp_path / "store"
    https.add(f"m/{BMAP}", uv_files[0], Fault(bytes_per_second=50_000))  # 16 s
    https.add(f"m/{FMAP}", uv_files[1])
    first = start(store, "fetch", "--only", "uv_map", **environment)
    until(lambda: any(path.stat().st_size > 0 for path in store.glob("partial/*.part")))
    second = start(store, "fetch", "--only", "uv_map", **environment)
    assert second.stderr is not None
    assert second.stderr.readline() == "Another process is writing this store; waiting for it.\n"
    assert len(https.requests) == 1
    first.kill()
    finish(first)
    status, out, messages = finish(second)
    assert status == 0, messages
    assert out == f"Store: {store}  converted: uv_map\n"
    assert https.requests[1].headers["range"].startswith("bytes=")
    assert [BMAP in r.path for r in https.requests] == [True, True, False]
    # And from here on the commands agree that it is there.
    status, out, _ = finish(start(store, "lock"))
    assert status == 0
    assert "uv_faces (fmap_256.npy)" in out


def test_fetch_says_what_could_not_be_had_and_fails(https, environment, tmp_path):
    """Status 1 and sentences on stderr; no traceback, no line of a retry."""
    https.add(f"m/{BMAP}", b"", always=Fault(status=503))
    process = start(tmp_path / "s", "fetch", "--only", "uv_map", WEIGHTS_RETRY_SECONDS="0", **environment)
    status, out, messages = finish(process)
    assert status == 1
    assert "WeightsMissing: 2 files could not be had" in messages
    assert "bmap_256.npy (127.0.0.1) answered HTTP 503" in messages
    assert "Traceback" not in messages
    assert "stamina" not in messages + out


def test_verify_exits_1_until_the_engine_is_ready(tmp_path):
    """For CI: the status is that of the engine asked for, by default the official one."""
    both = start(tmp_path / "s", "verify"), start(tmp_path / "s", "verify", "--engine", "lite", "--quick")
    (status, out, _), (lite, _, _) = map(finish, both)
    assert (status, lite) == (1, 0)
    assert "official: NOT READY" in out
    assert "lite: ready" in out


def test_list_shows_every_file_with_its_terms(tmp_path):
    """The table names files, sources and licences; an operator's own source by its setting alone."""
    process = start(tmp_path / "s", "list", WEIGHTS_UV_FACES="https://host.example/geheim")
    status, out, messages = finish(process)
    assert status == 0, messages
    for words in (
        "SMPL_NEUTRAL.pkl",
        "modellicense.html",
        "Apache-2.0",
        "WEIGHTS_UV_FACES",
        "not recorded yet",
    ):
        assert words in out
    assert "geheim" not in out


def test_wrong_setting_is_told_without_its_value(tmp_path):
    """A setting that cannot be is named; its value, which may be a secret, is not."""
    status, _, messages = finish(start(tmp_path / "s", "fetch", WEIGHTS_ATTEMPTS="geheim"))
    assert status == 1
    assert messages.startswith("A setting is wrong: attempts:")
    assert "geheim" not in messages
