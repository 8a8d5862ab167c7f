"""What RunPod's SDK inside a worker talks to: job-take, job-take-batch, job-stop, job-done, ping.

The SDK sends its key bare, without `Bearer`, and a body that is JSON whatever its content type says.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from aiohttp import web

from handler.errors import EndpointError, ErrorCode
from handler.transfer.http import whole_number
from ops.endpoint.jobs import State
from ops.endpoint.registry import Worker, WorkerRegistry
from ops.endpoint.replies import Refused, Routes, answer, parse_object, read_body
from ops.endpoint.settings import ServeSettings

MAX_RESULT_BYTES = 20 * 1000**2  # what RunPod was seen to accept
MAX_BATCH = 100
LEAVE_PAUSE_SECONDS = 0.5  # the SDK asks again at once until it gets its signal

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerApi:
    """What workers ask, by theirs."""

    registry: WorkerRegistry
    settings: ServeSettings

    def routes(self) -> Routes:
        """Each request that is answered."""
        return {
            ("GET", "/job-take/{worker_id}"): self.take,
            ("GET", "/job-take-batch/{worker_id}"): self.take,
            ("GET", "/job-stop/{worker_id}"): self.stop,
            ("POST", "/job-done/{worker_id}/{job_id}"): self.done,
            ("GET", "/ping/{worker_id}"): self.ping,
        }

    async def take(self, request: web.Request) -> web.Response:
        """Lease the next job to the worker, or several; held open while there is none."""
        worker = self._worker(request)
        limit = _batch_size(request)
        worker.has_asked = True
        if request.query.get("job_in_progress") == "0":
            # What it was given and does not have was lost on the way, or its result could not be posted.
            self.registry.queue.release(worker.worker_id)
        jobs = await self._hold(worker, lambda: self.registry.queue.take(worker.worker_id, limit or 1))
        if not jobs:
            return web.Response(status=204)
        self.registry.given(worker, [job.id for job in jobs])
        documents = [job.worker_document() for job in jobs]
        return answer(documents if limit else documents[0])

    async def stop(self, request: web.Request) -> web.Response:
        """Tell the worker which jobs to stop; held open while there is none."""
        worker = self._worker(request)
        job_ids = await self._hold(worker, lambda: self.registry.untold_stops(worker))
        return answer({"jobsToStop": job_ids}) if job_ids else web.Response(status=204)

    async def done(self, request: web.Request) -> web.Response:
        """Take a job's progress or result; what a worker says of a job it no longer has changes nothing."""
        worker, job_id = self._worker(request), request.match_info["job_id"]
        if self.registry.queue.get(job_id) is None:
            raise Refused(404, "there is no such job")
        raw = b""
        try:
            raw = await read_body(request, max_bytes=MAX_RESULT_BYTES, seconds=self.settings.request_seconds)
            body = parse_object(raw)
        except Refused as refused:
            # The SDK drops a refused result; without this its caller would wait until the job times out.
            # One that did not arrive whole may be sent again; if not, the job goes back at the next job-take.
            if refused.status != HTTPStatus.REQUEST_TIMEOUT and not _is_progress(raw):
                is_large = refused.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                code = ErrorCode.RESULT_TOO_LARGE if is_large else ErrorCode.RESULT_INVALID
                error = EndpointError(code, refused.reason)
                self.registry.queue.finish_with_error(job_id, worker.worker_id, error)
            raise
        output = orjson.dumps(body["output"]) if "output" in body else None
        if body.get("status") == State.IN_PROGRESS:
            if output is not None:
                self.registry.queue.progress(job_id, worker.worker_id, output)
            return answer({})
        error_text = _error_text(body.get("error"))
        if not self.registry.queue.finish(job_id, worker.worker_id, output, error_text):
            log.info("a late result was not kept", job_id=job_id, worker_id=worker.worker_id)
        if body.get("stopPod"):
            self.registry.dismiss(worker.worker_id)
        return answer({})

    async def ping(self, request: web.Request) -> web.Response:
        """A heartbeat: renew the leases of the jobs it names."""
        worker = self.registry.heard(request.match_info["worker_id"])
        if worker is not None:
            job_ids = [job_id for job_id in request.query.get("job_id", "").split(",") if job_id]
            self.registry.heartbeat(worker, job_ids)
        return answer({})

    def _worker(self, request: web.Request) -> Worker:
        worker = self.registry.heard(request.match_info["worker_id"])
        if worker is None:
            raise Refused(404, "this worker's process has ended")
        return worker

    async def _hold(self, worker: Worker, look: Callable[[], list[Any]]) -> list[Any]:
        """Wait until `look` finds something; an empty list after a while or if the worker must leave."""
        if self.registry.is_closing or worker.must_leave:
            await asyncio.sleep(LEAVE_PAUSE_SECONDS)
        deadline = time.monotonic() + self.settings.hold_seconds
        while not self.registry.is_closing and not worker.must_leave:
            if found := look():
                return found
            if time.monotonic() >= deadline:
                break
            await self.registry.changes.wait(deadline - time.monotonic())
        return []


def _batch_size(request: web.Request) -> int | None:
    if "/job-take-batch/" not in request.path:
        return None
    size = whole_number(request.query.get("batch_size", "1"))
    if not size:
        raise Refused(400, "batch_size must be a number from 1")
    return min(size, MAX_BATCH)


def _is_progress(raw: bytes) -> bool:
    """Whether a body that could not be taken (NaN in it, say) was only a progress message."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.get("status") == State.IN_PROGRESS


def _error_text(error: object) -> str | None:
    """An error as text, whatever JSON the handler gave; None if there was none."""
    if error is None or isinstance(error, str):
        return error or None
    return orjson.dumps(error).decode()
