"""The weights commands as an operator meets them, in processes of their own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.http_source import Fault

BMAP, FMAP = "bmap_256.npy", "fmap_256.npy"
COMMANDS = ("-m", "handler", "weights")


def start(store: Path, *arguments: object, program=COMMANDS, **environment: str) -> subprocess.Popen[str]:
    """`python -m handler weights ARGUMENTS` on a store, or another program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHTS_")}  # noqa: TID251 - for a process of its own
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        env=kept | {"MODEL_STORE": str(store), "HOME": str(store.parent), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Status, output, messages."""
    out, messages = process.communicate(timeout=100)
    return process.returncode, out, messages


@pytest.fixture
def store(tmp_path):
    """Where the commands find their store."""
    return tmp_path / "store"


@pytest.fixture
def environment(https, settings):
    """Variables for a fetch from `https`."""
    return {
        "WEIGHTS_MIRROR": https.url("m"),
        "WEIGHTS_CA_FILE": str(settings().ca_file),
        "WEIGHTS_OFFICIAL_HOSTS": "false",
    }


def test_second_process_waits_and_takes_over_when_the_first_is_killed(uv_files, https, environment, store):
    """One process writes a store; killed in mid-file, its lock is free and its bytes serve the next."""
    https.add(f"m/{BMAP}", uv_files[0], Fault(bytes_per_second=50_000))  # 16 s
    https.add(f"m/{FMAP}", uv_files[1])
    first = start(store, "fetch", "--only", "uv_map", **environment)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 0 for path in store.glob("partial/*.part")):
        assert time.monotonic() < deadline, "nothing arrived"
        time.sleep(0.02)  # another process writes the file
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


def test_fetch_says_what_could_not_be_had_and_fails(https, environment, store):
    """Status 1 and sentences on stderr; no traceback, no line of a retry."""
    https.add(f"m/{BMAP}", b"", always=Fault(status=503))
    process = start(store, "fetch", "--only", "uv_map", **environment)
    status, out, messages = finish(process)
    assert status == 1
    assert "error: 2 of 2 files could not be had\n" in messages
    assert "bmap_256.npy (127.0.0.1) answered HTTP 503" in messages
    assert "Traceback" not in messages
    assert "stamina" not in messages + out


def test_verify_exits_1_until_the_engine_is_ready(store):
    """For CI: the status is that of the engine asked for, by default the official one."""
    both = start(store, "verify"), start(store, "verify", "--engine", "lite", "--quick")
    (status, out, _), (lite, of_lite, _) = map(finish, both)
    assert (status, lite) == (1, 0)
    assert out.startswith("official: NOT READY")
    assert "upstream" not in out  # nobody asked
    assert of_lite == "lite: ready - the bundled small models (MODELS=lite)\n"


def test_list_shows_every_file_with_its_terms(store):
    """The table names files, sources and licences; an operator's own source by its setting alone."""
    status, out, messages = finish(start(store, "list", WEIGHTS_UV_FACES="https://host.example/geheim"))
    assert status == 0, messages
    words = ("SMPL_NEUTRAL.pkl", "modellicense.html", "Apache-2.0", "WEIGHTS_UV_FACES", "not recorded yet")
    assert [word for word in words if word not in out] == []
    assert "geheim" not in out


def test_lock_without_a_file_says_so(store):
    """Nothing is recorded, and no empty lock file made that looks like one."""
    status, out, _ = finish(start(store, "lock"))
    assert status == 0
    assert out.startswith(f"Nothing is recorded: no official file is in {store}. ")
    assert [path.name for path in store.iterdir()] == [".writer.lock"]


def test_convert_prints_what_was_made_and_what_was_left_out(official_tiny_files, store):
    """The report names files with hashes and each unused key with its reason."""
    status, out, messages = finish(start(store, "convert", official_tiny_files, "--only", "hmr2"))
    assert status == 0, messages
    assert (store / "hmr2.safetensors").is_file()
    for words in (
        "hmr2.safetensors",
        "from epoch=35-step=1000000.ckpt  sha256 ",
        "not used, only trains the network: discriminator.D_conv1.weight, discriminator.betas_fc1.bias",
    ):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "environment", "expected", "words"),
    [
        (
            ["convert", "."],
            {},
            1,
            "error: official files that are not in {store}:\n- epoch=35-step=1000000.ckpt",
        ),
        (["lock"], {"WEIGHTS_LOCK": "/dev"}, 1, "error: the lock file /dev cannot be read: Is a directory"),
        (["fetch"], {"WEIGHTS_OFFICIAL_HOSTS": "geheim"}, 1, "WEIGHTS_OFFICIAL_HOSTS must be true or false"),
        (["fetch", "--only", "hmr3"], {}, 2, "unknown: hmr3"),
    ],
    ids=["missing", "lock", "setting", "usage"],
)
def test_mistakes_are_told_in_a_sentence(store, arguments, environment, expected, words):
    """Never with a traceback, or with the value of a setting, which may be a secret."""
    store.mkdir()
    arguments = [str(store) if argument == "." else argument for argument in arguments]
    status, out, messages = finish(start(store, *arguments, **environment))
    assert (status, out) == (expected, "")
    assert words.format(store=store) in messages
    assert "Traceback" not in messages
    assert "geheim" not in messages


def test_signal_leaves_no_half_written_file(store):
    """`fetch` and `convert` write gigabytes; told to end, they remove what is half there."""
    script = """
import os, signal, sys
from ops import command_line
from ops.weights import convert as converting
from ops.files import written_whole

def convert(sources, store, **options):
    with written_whole(store / "hmr2.safetensors") as file:
        file.write(b"half")
        print([path.name for path in store.iterdir()])
        os.kill(os.getpid(), signal.SIGTERM)

converting.convert = convert
sys.argv = ["hmr2-worker", "weights", "convert", "."]
command_line.main()
"""
    status, out, messages = finish(start(store, program=("-c", script)))
    assert ".hmr2.safetensors." in out, messages
    assert status == 128 + signal.SIGTERM
    assert [path.name for path in store.iterdir()] == [".writer.lock"]
