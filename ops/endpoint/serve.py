"""`python -m handler serve`: endpoint, workers and storage on one machine, started and ended in order."""

import asyncio
import errno
import hmac
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web
from filelock import FileLock, Timeout

from handler import logs
from handler.fitness import Unfit, check_bucket, check_folder
from handler.settings import BucketSettings, IntakeSettings, WorkerSettings, inherited_environment
from model_cache.errors import ModelError
from model_cache.registry import check_detector, check_regressor
from model_cache.settings import ModelSettings
from ops.endpoint import CannotServe
from ops.endpoint.api import JobApi
from ops.endpoint.keys import storage_keys, worker_key, write_private
from ops.endpoint.queue import JobQueue
from ops.endpoint.registry import WorkerRegistry
from ops.endpoint.replies import Handle, Refused, errors_as_json
from ops.endpoint.settings import ENDPOINT_ID, LocalIntakeSettings, ServeSettings
from ops.endpoint.storage import ObjectStore
from ops.endpoint.supervise import Supervisor, worker_environment
from ops.endpoint.webhook import call_due_webhooks
from ops.endpoint.worker_api import WorkerApi
from ops.weights.inventory import check_official

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
WATCH_SECONDS = 1.0
SWEEP_SECONDS = 0.5
PAUSE_AFTER_ERROR_SECONDS = 2.0
LINGER_SECONDS = 10.0  # for the rest of a refused body, so that its sender can read the answer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What is asked for on the command line."""

    data: Path  # folder of the queue, the stored objects, the keys and the temporary files
    host: str = "127.0.0.1"  # beyond loopback a key is required
    port: int = 8000  # 0 takes a free one
    storage_port: int = 8001  # of the S3 server, always on loopback
    num_workers: int = 1
    gpus: tuple[str, ...] = ()  # dealt out to the workers in turn; empty leaves it to the environment
    models: str | None = None  # `auto`, `official` or `lite`; None leaves it to the environment
    worker_arguments: Sequence[str] = (sys.executable, "-m", "handler", "worker")


def run(options: ServeOptions, settings: ServeSettings | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then let the workers end and return.

    Raises:
        CannotServe: the address or the data folder is in use, or cannot be used; or no worker could start.
    """
    settings = settings or ServeSettings()
    if options.host not in LOOPBACK and not settings.api_key:
        raise CannotServe(f"to listen on {options.host}, set SERVE_API_KEY: anyone there could run jobs")
    if options.port and options.port == options.storage_port:
        raise CannotServe(f"--port and --storage-port are both {options.port}; they must differ")
    if options.num_workers:
        _check_worker(options)
    try:
        options.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Two endpoints on one queue would hand out its jobs twice.
        with FileLock(options.data / "lock", timeout=0), ExitStack() as open_now:
            key = worker_key(options.data / "worker.key")
            secrets = {key} | ({settings.api_key.get_secret_value()} if settings.api_key else set())
            logs.configure("INFO", logs.Redactor(secrets), as_json=False)
            store = _store(options)
            if store is not None:
                open_now.enter_context(store)
            queue = JobQueue(options.data / "queue.sqlite3", settings)
            open_now.callback(queue.close)
            asyncio.run(_serve(options, settings, queue, store, key))
    except Timeout:
        raise CannotServe(
            f"another endpoint uses the folder {options.data}; stop it, or name another folder with --data"
        ) from None
    except sqlite3.OperationalError as error:
        raise CannotServe(f"the queue in {options.data} cannot be written: {error}") from error
    except OSError as error:
        is_file = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "it is not a folder" if is_file else error.strerror
        raise CannotServe(f"the folder {options.data} (--data) cannot be used: {reason}") from error


def _check_worker(options: ServeOptions) -> None:
    """Refuse what would end every worker at its start, again and again."""
    models = ModelSettings()
    if options.models:
        models = models.model_copy(update={"models": options.models})
    bucket, worker = BucketSettings(), WorkerSettings()
    try:
        check_detector(models.detector, models.model_store)
        check_regressor(models.body_regressor)
        if bucket.name is not None:
            check_bucket(bucket)
        if "scratch" in worker.model_fields_set:
            check_folder(
                worker.scratch, IntakeSettings().reserve_disk_bytes, f"WORKER_SCRATCH={worker.scratch}"
            )
        if models.models == "official" and models.engine == "native":
            check_official(models)
    except (ModelError, Unfit) as error:
        raise CannotServe(str(error)) from error


async def _serve(
    options: ServeOptions, settings: ServeSettings, queue: JobQueue, store: ObjectStore | None, key: str
) -> None:
    stopping = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    queue.renew_leases()
    registry = WorkerRegistry(queue, settings)
    intake = LocalIntakeSettings()
    storage = store.environment() if store else {}
    (options.data / "home").mkdir(exist_ok=True)
    async with listening(
        registry, settings, intake, worker_key=key, host=options.host, port=options.port
    ) as url:
        client = {"ENDPOINT_URL": url, **storage}
        write_private(options.data / "client.env", "".join(f"{k}={v}\n" for k, v in client.items()))
        chosen = {"MODELS": options.models} if options.models else {}
        supervisor = Supervisor(
            registry=registry,
            arguments=options.worker_arguments,
            environment=worker_environment(
                {**inherited_environment(), **storage, **chosen},
                settings,
                base_url=url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:"),
                key=key,
                data=options.data.resolve(),
            ),
            num_workers=options.num_workers,
            gpus=options.gpus,
            stop_seconds=settings.stop_seconds,
        )
        log.info("endpoint is listening", url=url, storage=store.endpoint_url if store else "from BUCKET_*")
        async with asyncio.TaskGroup() as tasks:
            clock = run_clock(registry, settings, intake)
            background = [tasks.create_task(clock), tasks.create_task(_watch(store))]
            supervising = tasks.create_task(supervisor.run())
            await stopping.wait()
            log.info("shutting down; what is queued or unfinished goes on at the next start")
            registry.close()
            await supervising  # workers that finish in time still deliver: the endpoint listens until here
            for task in background:
                task.cancel()


def _store(options: ServeOptions) -> ObjectStore | None:
    """The store beside the endpoint, unless the environment names a bucket elsewhere."""
    if BucketSettings().name is not None:
        return None
    keys = storage_keys(options.data / "storage-keys.json")
    return ObjectStore(options.data / "objects", keys, port=options.storage_port)


async def _watch(store: ObjectStore | None) -> None:
    """Start the store again, on the same address, if it ends."""
    while store is not None:
        await asyncio.sleep(WATCH_SECONDS)
        if not store.is_running():
            log.error("the S3 server ended and is started again")
            try:
                store.start()
            except (CannotServe, OSError) as error:
                log.error("it did not start", error=str(error))


@asynccontextmanager
async def listening(
    registry: WorkerRegistry,
    settings: ServeSettings,
    intake: IntakeSettings,
    *,
    worker_key: str,
    host: str,
    port: int,
) -> AsyncIterator[str]:
    """Serve inside the block; gives the base URL, `http://HOST:PORT/v2/local`. Port 0 takes a free one.

    Raises:
        CannotServe: the address is in use or does not belong to this machine.
        ValueError: the worker key is empty; every request without a key would carry it.
    """
    if not worker_key:
        raise ValueError("the worker key is empty")
    prefix = f"/v2/{ENDPOINT_ID}"
    caller_key = settings.api_key.get_secret_value() if settings.api_key else None
    app = web.Application(middlewares=[errors_as_json])
    sides = (
        (JobApi(registry, settings, intake).routes(), caller_key),
        (WorkerApi(registry, settings).routes(), worker_key),
    )
    for routes, key in sides:
        for (method, path), handle in routes.items():
            app.router.add_route(method, prefix + path, _guarded(handle, key))
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=settings.request_seconds,  # also for a request whose head does not come whole
        lingering_time=min(settings.request_seconds, LINGER_SECONDS),
        handler_cancellation=True,  # a held request of a worker that has gone must not take a job for it
        shutdown_timeout=1.0,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise CannotServe(f"cannot listen on {host}:{port}: {_why_not(error)}") from error
        in_url = f"[{host}]" if ":" in host else host
        yield f"http://{in_url}:{runner.addresses[0][1]}{prefix}"
    finally:
        await runner.cleanup()


def _why_not(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there, perhaps an endpoint; stop it, or take another port with --port"
    if error.errno == errno.EACCES:
        return "this user may not; take another port with --port"
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror  # of a look-up
    return f"{reason}; --host must be an address of this machine"


async def run_clock(registry: WorkerRegistry, settings: ServeSettings, intake: IntakeSettings) -> None:
    """Apply time limits and call webhooks, for ever."""

    async def sweep() -> None:
        registry.sweep()
        await asyncio.sleep(SWEEP_SECONDS)

    async def call_webhooks() -> None:
        if not await call_due_webhooks(registry.queue, intake, settings.webhook_timeout_seconds):
            await registry.changes.wait(SWEEP_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_repeatedly(sweep))
        tasks.create_task(_repeatedly(call_webhooks))


async def _repeatedly(step: Callable[[], Awaitable[None]]) -> None:
    """Do a step for ever: an error must not end it, a full disk for example."""
    while True:
        try:
            await step()
            continue
        except sqlite3.OperationalError as error:
            log.error("the queue cannot be written; time limits and webhooks wait", error=str(error))
        except Exception:
            log.exception("time limits or webhooks failed, and are tried again")
        await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)


def _guarded(handle: Handle, key: str | None) -> Handle:
    """The same, open only to requests with the key; without a key, to anything but web pages."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        # Any page in a browser on this machine could send jobs here; browsers say so by this header.
        if key is None and "Origin" in request.headers:
            raise Refused(403, "web pages may not use an endpoint without a key; set SERVE_API_KEY")
        # As bytes: header values are not always text.
        if key is not None and not hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), key.encode()):
            raise Refused(401, "the Authorization header holds no valid key")
        return await handle(request)

    return guarded
