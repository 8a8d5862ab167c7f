"""A small worker on RunPod's real SDK, run as a process of its own by the tests of the endpoint."""

import asyncio
import os
from pathlib import Path
from typing import Any

WORKER_ID, MODELS, GPU = map(os.environ.get, ("RUNPOD_POD_ID", "MODELS", "CUDA_VISIBLE_DEVICES"))  # noqa: TID251 - as workers read them


async def handle(job: dict[str, Any]) -> Any:
    """Do what `input` says: note a start, sleep, wait for a file, reply."""
    asked = job["input"]
    if "started" in asked:
        with Path(asked["started"]).open("a") as file:
            file.write(f"{WORKER_ID} {os.getpid()}\n")
    await asyncio.sleep(asked.get("sleep", 0))  # the length of its work
    while "release" in asked and not Path(asked["release"]).exists():
        await asyncio.sleep(0.02)  # the test is another process
    if asked.get("nan"):
        return {"value": float("nan")}
    return asked.get("reply", {"echo": asked, "worker": WORKER_ID, "models": MODELS, "gpu": GPU})


def main() -> None:
    """Take jobs until told to end."""
    import cpuinfo

    cpuinfo.get_cpu_info = dict  # as `handler.worker` does; it takes a second of each start
    import runpod.serverless

    runpod.serverless.start({"handler": handle})


if __name__ == "__main__":
    main()
