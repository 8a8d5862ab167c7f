"""A RunPod worker: loads the models, checks itself, then takes jobs through RunPod's SDK.

Everything that depends on the SDK's internals is in this file.
"""

import asyncio
import inspect
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import NoReturn

import structlog

from handler import logs, pipeline
from handler.context import JobContext
from handler.fitness import Unfit, checks
from handler.handler import Handler, Job
from handler.job import ProgressMessage, Reply
from handler.lifecycle import Lifecycle
from handler.process import end_with_parent, resident_bytes, tune_process
from handler.scratch import Scratch
from handler.settings import Settings, quiet_platform_logs
from model_cache.errors import ModelError
from model_cache.interfaces import Models

log = structlog.get_logger(__name__)


def start(load: Callable[[], Models], settings: Settings) -> None:
    """Load the models, then take jobs until told to stop. Does not return before that.

    Models are loaded before the first job is taken, so that no job waits for them. A worker without its
    weights reports itself unhealthy and ends.
    """
    # As a container's first process, Python ignores SIGTERM until the SDK installs its own handler.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    tune_process()
    redactor = prepare(settings)
    try:
        models = load()
    except ModelError as error:
        log.error("the models cannot be loaded", error=str(error))
        reason = str(error)

        def weights_are_there(*_: object) -> NoReturn:
            raise Unfit(reason)

        take_jobs(weights_are_there, [weights_are_there], settings, redactor)
    else:
        run = partial(pipeline.run, models=models, settings=settings)
        take_jobs(run, checks(models, settings), settings, redactor)


def prepare(settings: Settings) -> logs.Redactor:
    """Import the SDK with quiet logs, and replace the root logger's handler that it installs."""
    quiet_platform_logs()
    # The SDK would measure the processor's clock for its debugger, for a second; no answer will do.
    import_module("cpuinfo").get_cpu_info = dict  # type: ignore[attr-defined]
    import_module("runpod")  # takes over a second, and puts a plain-text handler on the root logger
    redactor = logs.Redactor(settings.secrets())
    logs.configure(settings.worker.log_level, redactor)
    return redactor


def take_jobs(
    run: Callable[[JobContext], Reply],
    fitness: Sequence[Callable[[], None]],
    settings: Settings,
    redactor: logs.Redactor,
) -> None:
    """Run the SDK's jobs one at a time, until the process is told to end.

    The first check of `fitness` that raises ends the worker as unhealthy.
    """
    import runpod.serverless
    from runpod.serverless.modules.worker_state import JobsProgress

    # The SDK's heartbeat process would otherwise report a killed worker as alive.
    os.register_at_fork(after_in_child=partial(end_with_parent, signal.SIGKILL))
    scratch = Scratch(settings.worker.scratch)
    if scratch.swept:
        log.warning("removed files of dead workers", num_workers=scratch.swept)
    handler = Handler(
        run,
        settings=settings.worker,
        scratch=scratch,
        redactor=redactor,
        send_progress=send_progress,
        memory_bytes=resident_bytes,
    )
    keep_early_stops(handler)
    lifecycle = Lifecycle(
        handler,
        num_jobs=JobsProgress().get_job_count,
        shutdown_seconds=settings.worker.shutdown_seconds,
        clean_up=scratch.close,
    )
    for check in fitness:
        runpod.serverless.register_fitness_check(check)
    log.info("worker is ready", fitness_checks=[check.__name__ for check in fitness])
    try:
        runpod.serverless.start({"handler": handler.handle, "concurrency_modifier": lifecycle.concurrency})
    finally:
        scratch.close()


def send_progress(job: Job, message: ProgressMessage, seconds: float) -> None:
    """Post one update and wait for the answer, or give it up and close its connection.

    The SDK's own `progress_update` posts in a thread that cannot be waited for or ended, with retries for
    minutes: an update could overtake an earlier one, or follow the result and re-open the job.

    Raises:
        TimeoutError: the queue did not answer in time.
    """
    from runpod.http_client import AsyncClientSession
    from runpod.serverless.modules.rp_http import send_result

    async def post() -> None:
        update = {"status": "IN_PROGRESS", "output": message.model_dump(mode="json")}
        async with asyncio.timeout(seconds), AsyncClientSession() as session:
            await send_result(session, update, dict(job))

    asyncio.run(post())


def keep_early_stops(handler: Handler) -> None:
    """Tell the handler of a stop that comes before its job has begun.

    The SDK begins a job up to 0.1 s after it took it, and drops a stop that comes earlier: the job would run
    to its end. If the job's task is cancelled before its first step, the SDK never counts it as ended and
    never asks for another job.
    """
    from runpod.serverless.modules.rp_scale import JobScaler

    stop_running_job = JobScaler.stop_job

    async def stop_job(scaler: JobScaler, job_id: str) -> bool:
        task = scaler.jobs_tasks.get(job_id)
        if task is None or inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:
            handler.refuse(job_id)
            return False
        return bool(await stop_running_job(scaler, job_id))

    JobScaler.stop_job = stop_job
