"""The endpoint: callers' and workers' routes on one address, and the clock that drives the queue."""

import asyncio
import hmac
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from handler.settings import IntakeSettings
from ops.endpoint import CannotServe
from ops.endpoint.api import JobApi
from ops.endpoint.registry import WorkerRegistry
from ops.endpoint.replies import Handle, Refused, errors_as_json
from ops.endpoint.settings import ENDPOINT_ID, ServeSettings
from ops.endpoint.webhook import call_due_webhooks
from ops.endpoint.worker_api import WorkerApi

SWEEP_SECONDS = 0.5
PAUSE_AFTER_ERROR_SECONDS = 2.0
LINGER_SECONDS = 10.0  # for the rest of a refused body, so that its sender can read the answer

log = structlog.get_logger(__name__)


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
    """Serve inside the block; gives the base URL, `http://HOST:PORT/v2/local`.

    Args:
        registry: the workers and their queue.
        settings: the callers' key, and limits.
        intake: which addresses webhooks may have.
        worker_key: what workers must send.
        host: address to listen on.
        port: 0 takes a free one.

    Raises:
        CannotServe: the address is in use, or is none of this machine.
        ValueError: the worker key is empty; every request without a key would carry it.
    """
    if not worker_key:
        raise ValueError("the worker key is empty")
    prefix = f"/v2/{ENDPOINT_ID}"
    caller_key = settings.api_key.get_secret_value() if settings.api_key else None
    app = web.Application(middlewares=[errors_as_json])
    app.add_routes(_guarded(JobApi(registry, settings, intake).routes(prefix), caller_key))
    app.add_routes(_guarded(WorkerApi(registry, settings).routes(prefix), worker_key))
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
            raise CannotServe(f"cannot listen on {host}:{port}: {error.strerror}") from error
        in_url = f"[{host}]" if ":" in host else host
        yield f"http://{in_url}:{runner.addresses[0][1]}{prefix}"
    finally:
        await runner.cleanup()


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
        except sqlite3.OperationalError as error:
            log.error("the queue cannot be written; time limits and webhooks wait", error=str(error))
            await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)
        except Exception:
            log.exception("time limits or webhooks failed, and are tried again")
            await asyncio.sleep(PAUSE_AFTER_ERROR_SECONDS)


def _guarded(routes: list[web.RouteDef], key: str | None) -> list[web.RouteDef]:
    """The same routes, open only to requests with the key; without a key, to anything but web pages."""
    return [web.route(route.method, route.path, _checked(route.handler, key)) for route in routes]


def _checked(handle: Handle, key: str | None) -> Handle:
    async def checked(request: web.Request) -> web.StreamResponse:
        if key is None:
            # Any page in a browser on this machine could send jobs here; browsers say so by this header.
            if "Origin" in request.headers:
                raise Refused(403, "web pages may not use an endpoint without a key; set SERVE_API_KEY")
            return await handle(request)
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        # As bytes: header values are not always text.
        if not hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), key.encode()):
            raise Refused(401, "the Authorization header holds no valid key")
        return await handle(request)

    return checked
