"""A tiny RunPod job queue: the calls that the SDK's rp_job, rp_http and rp_ping make, each one recorded."""

import asyncio
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

HOLD_SECONDS, LOOK_SECONDS = 20.0, 0.02  # the SDK expects long polls; tests change things from other threads


@dataclass
class Event:
    """One call of the worker."""

    kind: str  # poll, take, progress, done, ping
    job_id: str
    body: Any


class FakeQueue:
    """A server on loopback in a thread of its own; every method may be called from any thread."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.open: Counter[str] = Counter()  # requests under way, by the first word of their path
        self.done_statuses: dict[str, list[int]] = defaultdict(list)  # answers to come, then 200
        self.progress_delay_seconds = 0.0
        self.port = 0
        self._jobs: list[dict[str, Any]] = []
        self._stop_after: dict[str, float] = {}
        self._stops: list[str] = []
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "FakeQueue":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def environment(self) -> dict[str, str]:
        """What RunPod puts into a worker's environment."""
        base = f"http://127.0.0.1:{self.port}/v2/ep"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu=x",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=x",
            "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu=x",
            "RUNPOD_AI_API_KEY": "queue-key-0123456789",
            "RUNPOD_POD_ID": "worker1",
            "RUNPOD_ENDPOINT_ID": "ep",
            "RUNPOD_PING_INTERVAL": "1000",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def submit(self, job_id: str, job_input: Any, *, stop_after: float | None = None) -> None:
        """Put a job into the queue; told to stop so many seconds after it is taken, or before if negative."""
        if stop_after is not None:
            self._stop_after[job_id] = stop_after
        self._jobs.append({"id": job_id, "input": job_input})

    def stop(self, job_id: str) -> None:
        """Tell the worker to stop a job."""
        self._stops.append(job_id)

    @property
    def waiting(self) -> list[str]:
        """Jobs that no worker has taken."""
        return [job["id"] for job in self._jobs]

    def wait(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Block until the condition holds."""
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                raise TimeoutError(f"still waiting after {seconds} s; seen: {self.events}")

    def result(self, job_id: str, seconds: float = 20.0) -> dict[str, Any]:
        """The body that the worker posts for a job."""
        self.wait(lambda: self.of(job_id, "done"), seconds)
        body = self.of(job_id, "done")[-1].body
        assert isinstance(body, dict)
        return body

    def of(self, job_id: str, kind: str) -> list[Event]:
        """Calls of one kind for one job."""
        return [event for event in list(self.events) if event.job_id == job_id and event.kind == kind]

    def kinds(self, job_id: str) -> list[str]:
        """The calls for one job, heartbeats aside, once every update that is on its way has arrived."""
        self.wait(lambda: not self.open["job-done"])
        return [event.kind for event in self.events if event.job_id == job_id and event.kind != "ping"]

    def _record(self, kind: str, job_id: str, body: Any = None) -> None:
        with self._changed:
            self.events.append(Event(kind, job_id, body))
            self._changed.notify_all()

    async def _listen(self) -> None:
        app = web.Application(client_max_size=64 * 1024**2, middlewares=[self._count_open])
        app.add_routes(
            [
                web.get("/v2/ep/job-take/{worker}", self._take),
                web.get("/v2/ep/job-stop/{worker}", self._stop),
                web.post("/v2/ep/job-done/{worker}/{job}", self._done),
                web.get("/v2/ep/ping/{worker}", self._ping),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    @web.middleware
    async def _count_open(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Count a request while it is open; one whose connection breaks is cancelled."""
        kind = request.path.split("/")[3]
        self.open[kind] += 1
        try:
            answer: web.StreamResponse = await handler(request)
            return answer
        finally:
            with self._changed:
                self.open[kind] -= 1
                self._changed.notify_all()

    async def _hold(self, ready: Callable[[], object]) -> bool:
        deadline = self._loop.time() + HOLD_SECONDS
        while not ready() and self._loop.time() < deadline:
            await asyncio.sleep(LOOK_SECONDS)  # jobs also come due by the clock
        return bool(ready())

    async def _take(self, request: web.Request) -> web.Response:
        self._record("poll", "")
        if not await self._hold(lambda: self._jobs):
            return web.Response(status=204)
        job = self._jobs.pop(0)
        self._record("take", job["id"])
        after = self._stop_after.pop(job["id"], None)
        if after is not None:
            self._loop.call_later(max(after, 0), self.stop, job["id"])
            await asyncio.sleep(max(-after, 0))  # the answer is on its way for so long
        return web.json_response(job)

    async def _stop(self, request: web.Request) -> web.Response:
        if not await self._hold(lambda: self._stops):
            return web.Response(status=204)
        stops, self._stops = self._stops, []
        return web.json_response({"jobsToStop": stops})

    async def _done(self, request: web.Request) -> web.Response:
        job_id = request.match_info["job"]
        body = json.loads(await request.text(), parse_constant=_refuse_constant)
        if body.get("status") == "IN_PROGRESS":
            await asyncio.sleep(self.progress_delay_seconds)  # a slow queue
            self._record("progress", job_id, body)
            return web.Response()
        self._record("done", job_id, body)
        statuses = self.done_statuses[job_id]
        return web.Response(status=statuses.pop(0) if statuses else 200)

    async def _ping(self, request: web.Request) -> web.Response:
        self._record("ping", request.query.get("job_id", ""), dict(request.query))
        return web.Response()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
