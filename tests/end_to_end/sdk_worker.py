"""A small worker on RunPod's real SDK, run as a process of its own by the tests of the endpoint."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

WORKER_ID = os.environ["RUNPOD_POD_ID"]  # noqa: TID251 - as the SDK reads it


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
    time.sleep(asked.get("block", 0))  # as a plain handler does: the SDK's loop stands still
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


def main() -> None:
    """Take jobs until told to end."""
    import cpuinfo

    cpuinfo.get_cpu_info = dict  # as `handler.worker` does; it takes a second of each start
    import runpod.serverless

    runpod.serverless.start({"handler": handle})


if __name__ == "__main__":
    main()
