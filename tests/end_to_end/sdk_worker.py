"""A small worker on RunPod's real SDK, run as a process of its own by the tests of the endpoint.

Its handler does what the job's input says; `GENERATOR=1` makes it a generator instead.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORKER_ID = os.environ["RUNPOD_POD_ID"]  # noqa: TID251 - as the SDK reads it
IS_GENERATOR = "GENERATOR" in os.environ  # noqa: TID251 - a switch of the tests only


async def handle(job: dict[str, Any]) -> Any:
    """Do what `input` says: touch a file, report progress, sleep, fail, die, ask to be replaced."""
    import runpod.serverless

    asked = job["input"]
    if "started" in asked:
        with Path(asked["started"]).open("a") as file:
            file.write(f"{WORKER_ID} {os.getpid()} {time.time()}\n")
    for step in range(asked.get("steps", 0)):
        runpod.serverless.progress_update(job, {"step": step})
        await asyncio.sleep(asked.get("step_seconds", 0.1))
    if "die_unless" in asked and not Path(asked["die_unless"]).exists():
        Path(asked["die_unless"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if asked.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    deadline = time.monotonic() + asked.get("sleep", 0)
    while time.monotonic() < deadline:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            if not asked.get("stubborn"):
                raise
    if "release" in asked:
        while not Path(asked["release"]).exists():
            await asyncio.sleep(0.02)
    if asked.get("nan"):
        return {"value": float("nan")}
    return asked.get("reply", {"echo": asked, "worker": WORKER_ID})


def generate(job: dict[str, Any]) -> Iterator[Any]:
    """Yield as many parts as `input` says; once the first is out, wait for the file that it may name."""
    asked = job["input"]
    for index in range(asked["parts"]):
        while index and "release" in asked and not Path(asked["release"]).exists():
            time.sleep(0.02)
        time.sleep(asked.get("part_seconds", 0.05))
        yield {"part": index}


def main() -> None:
    """Take jobs until told to end."""
    import cpuinfo

    cpuinfo.get_cpu_info = dict  # as `handler.worker` does; it takes a second of each start
    import runpod.serverless

    handler = generate if IS_GENERATOR else handle
    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})


if __name__ == "__main__":
    main()
