"""A command that is told to end by a signal leaves nothing behind and says so by its exit code."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from handler import process
from handler.process import exit_on_signals, stopping_on_signals
from handler.settings import Settings
from ops.overlay_command import draw
from ops.track_command import track
from tests.fakes import FakeBody, FakeModels
from tests.handler.rig import before_frame, local_settings

QUIET = Console(quiet=True)
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The handlers of the tests' own process, put back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Temporary files go to a folder of the test."""
    return local_settings(tmp_path / "scratch")


def send(number: signal.Signals) -> None:
    """A signal to this process."""
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_track_ends_in_order(
    tmp_path: Path, settings: Settings, clip_of_two: Path, number: signal.Signals
) -> None:
    """In the middle of a video: exit code 128 + signal, no scratch folder, no result, no thread."""
    models = FakeModels(perception=before_frame(12, lambda: send(number)))
    before = threading.active_count()
    with pytest.raises(SystemExit) as ended:
        track([str(clip_of_two)], tmp_path / "out", lambda: models, settings, console=QUIET, errors=QUIET)
    assert ended.value.code == 128 + number
    assert list((tmp_path / "scratch").glob("worker-*")) == []
    assert not (tmp_path / "out").exists()
    assert threading.active_count() == before


def test_overlay_ends_in_order(tmp_path: Path, settings: Settings, clip_of_two: Path) -> None:
    """While it draws: exit code 143, no half film, no temporary folder."""
    out = tmp_path / "out"
    assert track([str(clip_of_two)], out, FakeModels, settings, console=QUIET, errors=QUIET) == 0

    class SignallingBody(FakeBody):
        def vertices(self, *pose: object) -> object:
            send(signal.SIGTERM)
            return super().vertices(*pose)  # type: ignore[arg-type]

    with pytest.raises(SystemExit) as ended:
        draw(clip_of_two, out, None, "mesh", lambda name: SignallingBody(), settings)
    assert ended.value.code == 128 + signal.SIGTERM
    assert sorted(path.name for path in out.iterdir()) == ["frames.jsonl.gz", "result.json"]


def test_signal_that_was_to_be_ignored_is(tmp_path: Path) -> None:
    """`nohup` keeps its meaning."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    exit_on_signals()
    with stopping_on_signals(lambda: pytest.fail("not told"), lambda: pytest.fail("not told")):
        send(signal.SIGHUP)


def test_signal_outside_of_a_job_is_an_exception(tmp_path: Path) -> None:
    """While models are loaded there is nothing to stop; what is open closes on the way out."""
    exit_on_signals()
    with pytest.raises(SystemExit) as ended:
        send(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize("again", [True, False], ids=["second signal", "too slow"])
def test_block_that_does_not_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """A pass over the device takes its time; what must not stay is removed without it."""
    done: list[object] = []
    ended = threading.Event()

    def end(code: int) -> None:
        done.append(code)
        ended.set()

    monkeypatch.setattr(process.os, "_exit", end)
    monkeypatch.setattr(process, "PATIENCE_SECONDS", 60.0 if again else 0.01)

    def block() -> None:
        with stopping_on_signals(lambda: done.append("stop"), lambda: done.append("clean up")):
            send(signal.SIGTERM)
            if again:
                send(signal.SIGINT)
            ended.wait(10)

    with pytest.raises(SystemExit):
        block()
    assert done == ["stop", "clean up", 143]


SLOW_TRACK = """
import sys, time
from pathlib import Path
from rich.console import Console
from handler.process import exit_on_signals
from ops.track_command import track
from tests.fakes import FakeModels, FakePerception
from tests.handler.rig import local_settings

def slow(indices):
    print("perceiving", flush=True)
    time.sleep(600)  # a device that does not answer; the signal ends it

clip, folder = map(Path, sys.argv[1:])
models = FakeModels(perception=FakePerception(before=slow))
exit_on_signals()
quiet = Console(quiet=True)
sys.exit(track([str(clip)], None, lambda: models, local_settings(folder), console=quiet, errors=Console()))
"""


def test_process_ends_in_the_middle_of_a_pass(tmp_path: Path, clip_of_two: Path) -> None:
    """A real process, deaf in its device: two Ctrl-C end it with 130, and its scratch folder is gone."""
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_TRACK, clip_of_two, tmp_path / "scratch"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "perceiving\n"
        assert len(list((tmp_path / "scratch").glob("worker-*/job-*"))) == 1
        for _ in range(2):
            child.send_signal(signal.SIGINT)
        assert child.wait(30) == 128 + signal.SIGINT
    assert list((tmp_path / "scratch").glob("worker-*")) == []
