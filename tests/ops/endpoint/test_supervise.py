"""How worker processes are kept alive and ended; the workers here are shell scripts."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from handler.settings import IntakeSettings
from ops.endpoint import supervise
from ops.endpoint.queue import JobQueue
from ops.endpoint.registry import WorkerRegistry
from ops.endpoint.settings import LocalIntakeSettings, ServeSettings
from ops.endpoint.supervise import Supervisor, birth, worker_environment
from tests.end_to_end.endpoint_process import wait_until


def supervised(
    queue: JobQueue,
    folder: Path,
    script: str,
    during: Callable[[WorkerRegistry, list[str]], bool],
    *,
    stop_seconds: float = 5.0,
) -> tuple[WorkerRegistry, list[int]]:
    """Keep one worker alive until `during`, given the workers' ids so far, is true; then close.

    Returns the registry, and each worker's process id.
    """
    started = folder / "started"
    started.touch()

    async def main() -> WorkerRegistry:
        registry = WorkerRegistry(queue, ServeSettings())
        supervisor = Supervisor(
            registry=registry,
            arguments=["/bin/sh", "-c", f"echo $RUNPOD_POD_ID $$ >> {started}; {script}"],
            environment={"PATH": os.defpath},
            num_workers=1,
            stop_seconds=stop_seconds,
        )
        task = asyncio.create_task(supervisor.run())
        async with asyncio.timeout(60):  # what another process has written is looked for
            while not ((ids := started.read_text().split()[::2]) and during(registry, ids)):
                await asyncio.sleep(0.02)
                assert not task.done()
        registry.close()
        await task
        return registry

    registry = asyncio.run(main())
    assert num_noted(queue) == 0
    return registry, [int(pid) for pid in started.read_text().split()[1::2]]


def num_noted(queue: JobQueue) -> int:
    """Workers that an endpoint which starts now would look for."""
    count: int = queue.db.execute("SELECT COUNT(*) FROM workers").fetchone()[0]
    return count


def group_is_gone(pid: int) -> bool:
    """Whether no process of this group lives; one that has ended may still wait to be reaped."""
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                return False
        except ProcessLookupError:
            continue
    return True


def test_worker_that_cannot_start_is_unhealthy(queue, tmp_path, monkeypatch):
    """It is tried again, with pauses, and /health says so."""
    monkeypatch.setattr(supervise, "LONGEST_PAUSE_SECONDS", 0.01)
    registry, pids = supervised(
        queue, tmp_path, "exit 3", lambda registry, _: registry.counts()["unhealthy"] == 1
    )
    assert registry.unhealthy == {0}
    assert len(pids) >= supervise.FAILURES_UNTIL_UNHEALTHY


def test_pause_between_starts_does_not_hold_up_the_end(queue, tmp_path):
    """A worker that waits to be started again is not waited for."""
    start = time.monotonic()
    supervised(queue, tmp_path, "exit 3", lambda *_: time.monotonic() - start > 0.5)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("script", ["sleep 600 & wait", "trap '' TERM; while :; do sleep 0.05; done"])
def test_end_reaches_all_of_a_worker(queue, tmp_path, script):
    """Its children (the SDK's heartbeat process, a decoder), and one that ignores SIGTERM, after its time."""
    ready = tmp_path / "ready"
    script = script.replace("; while", f"; touch {ready}; while").replace("& wait", f"& touch {ready}; wait")
    _, pids = supervised(queue, tmp_path, script, lambda *_: ready.exists(), stop_seconds=0.3)
    wait_until(lambda: all(group_is_gone(pid) for pid in pids))


def test_workers_are_kept_alive_without_room(queue, tmp_path, monkeypatch):
    """On a full disk one that ends is started again all the same, and the endpoint ends in order."""
    monkeypatch.setattr(supervise, "LONGEST_PAUSE_SECONDS", 0.01)
    queue.db.execute("PRAGMA query_only = ON")
    supervised(queue, tmp_path, "exit 3", lambda _, ids: len(ids) >= 2)


def test_left_over_worker_of_a_killed_endpoint_is_ended(queue):
    """Known by its number and birth; a later process that got the number is left alone."""

    async def main() -> None:
        script = "trap '' TERM; while :; do sleep 0.05; done"
        left = [
            await asyncio.create_subprocess_exec("/bin/sh", "-c", script, start_new_session=True)
            for _ in "ab"
        ]
        for process, born in zip(left, [birth(left[0].pid), "1"], strict=True):
            queue.db.execute("INSERT INTO workers VALUES (?, ?, ?)", (f"w{process.pid}", process.pid, born))
        registry = WorkerRegistry(queue, ServeSettings())
        no_workers = {"arguments": ["/bin/true"], "environment": {}, "num_workers": 0}
        await Supervisor(registry=registry, stop_seconds=0.3, **no_workers).run()
        assert await left[0].wait() == -signal.SIGKILL
        assert left[1].returncode is None
        left[1].kill()
        await left[1].wait()
        assert num_noted(queue) == 0

    asyncio.run(main())


def test_birth_tells_a_living_process_from_others():
    """The same while it lives; none for one that has ended, reaped or not, or never was."""
    assert birth(os.getpid()) == birth(os.getpid()) is not None
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert birth(child.pid) not in (None, birth(os.getpid()))
        child.stdin.close()
        wait_until(lambda: birth(child.pid) is None)  # a zombie: nobody has waited for it
        assert child.returncode is None
    assert birth(child.pid) is None
    assert birth(2**22 + 1) is None


def environment(given: dict[str, str]) -> dict[str, str]:
    """A worker's environment at an endpoint with ordinary settings."""
    settings, url = ServeSettings(execution_timeout_seconds=3600), "http://127.0.0.1:8000/v2/local"
    return worker_environment(given, settings, base_url=url, key="secret", data=Path("/data"))


def test_sdk_finds_its_addresses():
    """Each has a query, since the SDK appends `&...`, and job-take in its path, since it derives others."""
    made = environment({})
    assert made["RUNPOD_WEBHOOK_GET_JOB"] == "http://127.0.0.1:8000/v2/local/job-take/$ID?gpu=local"
    for name in ("GET_JOB", "POST_OUTPUT", "PING"):
        assert "?" in made[f"RUNPOD_WEBHOOK_{name}"]
    assert made["RUNPOD_PING_INTERVAL"] == "5000"
    assert made["RUNPOD_LOG_LEVEL"] == "INFO"
    assert made["WORKER_TIME_BUDGET_SECONDS"] == "3540", "its own coded error says more than TIMED_OUT"


def test_nothing_of_a_real_platform_leaks_in():
    """Neither variables of RunPod's nor a key that its command line saved in the home folder."""
    given = {"RUNPOD_API_KEY": "real", "SERVE_API_KEY": "mine", "HOME": "/home/me", "PATH": "/bin"}
    made = environment(given)
    assert not {"real", "mine"} & set(made.values())
    assert made["HOME"] == "/data/home"
    assert made["PATH"] == "/bin"
    assert made["MODEL_STORE"] == "/home/me/.cache/hmr2-phalp", "the weights are still found"


def test_what_the_user_set_stays():
    """Their own limits, models and bucket."""
    mine = {"VIDEO_ALLOW_HTTP": "false", "MODEL_STORE": "/w", "MODELS": "official", "BUCKET_NAME": "mine"}
    assert mine.items() <= environment(mine).items()


def test_worker_and_webhooks_have_the_same_rules(monkeypatch):
    """What a worker reads from its environment is what the endpoint itself goes by."""
    for inherited in ({}, {"VIDEO_ALLOW_PRIVATE_ADDRESSES": "false", "VIDEO_ALLOWED_PORTS": "[443]"}):
        for name, value in environment(inherited).items():
            if name.startswith("VIDEO_"):
                monkeypatch.setenv(name, value)
        of_worker = IntakeSettings()
        monkeypatch.undo()
        for name, value in inherited.items():
            monkeypatch.setenv(name, value)
        assert LocalIntakeSettings().model_dump() == of_worker.model_dump()
