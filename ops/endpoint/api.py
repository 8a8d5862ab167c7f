"""RunPod's job API as callers know it: run, runsync, status, stream, cancel, retry, purge-queue, health."""

import time
import uuid
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from handler.problems import problems
from handler.settings import IntakeSettings
from handler.transfer.addresses import AddressRefused, check_url, check_written_address
from handler.transfer.http import whole_number
from ops.endpoint.jobs import FINAL, Job
from ops.endpoint.registry import WorkerRegistry
from ops.endpoint.replies import Refused, Routes, answer, parse_object, read_body
from ops.endpoint.settings import ServeSettings

MAX_RUN_BYTES = 10 * 1000**2  # RunPod's limits
MAX_RUNSYNC_BYTES = 20 * 1000**2
DEFAULT_WAIT_MS, MIN_WAIT_MS, MAX_WAIT_MS = 90_000, 1_000, 300_000
WEEK_MS = 7 * 24 * 3600 * 1000


class Policy(BaseModel):
    """What a caller may say about a job's life; milliseconds."""

    model_config = ConfigDict(frozen=True, strict=True)

    executionTimeout: int | None = Field(default=None, ge=5_000, le=WEEK_MS)  # noqa: N815 - RunPod's name
    ttl: int | None = Field(default=None, ge=10_000, le=WEEK_MS)
    lowPriority: bool = False  # noqa: N815 - accepted; nothing scales on one machine


class RunRequest(BaseModel):
    """The body of /run and /runsync; whatever else is in it reaches the worker as it is."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    input: dict[str, Any]
    webhook: str | None = None
    policy: Policy = Policy()


@dataclass(frozen=True, slots=True)
class JobApi:
    """What callers ask, by their key."""

    registry: WorkerRegistry
    settings: ServeSettings
    intake: IntakeSettings

    def routes(self) -> Routes:
        """Each request that is answered; clients of RunPod ask for a job's state with GET and with POST."""
        return {
            ("POST", "/run"): self.run,
            ("POST", "/runsync"): self.runsync,
            ("GET", "/status/{job_id}"): self.status,
            ("POST", "/status/{job_id}"): self.status,
            ("GET", "/stream/{job_id}"): self.stream,
            ("POST", "/stream/{job_id}"): self.stream,
            ("POST", "/cancel/{job_id}"): self.cancel,
            ("POST", "/retry/{job_id}"): self.retry,
            ("POST", "/purge-queue"): self.purge_queue,
            ("GET", "/health"): self.health,
        }

    async def run(self, request: web.Request) -> web.Response:
        """Queue a job."""
        job = await self._submit(request, max_bytes=MAX_RUN_BYTES, is_sync=False)
        return answer({"id": job.id, "status": job.status.value})

    async def runsync(self, request: web.Request) -> web.Response:
        """Queue a job and wait for its end, or as long as `?wait=` says."""
        wait_ms = _wait_ms(request)
        job = await self._submit(request, max_bytes=MAX_RUNSYNC_BYTES, is_sync=True)
        deadline = time.monotonic() + wait_ms / 1000
        while job.status not in FINAL and not self.registry.is_closing and time.monotonic() < deadline:
            await self.registry.changes.wait(deadline - time.monotonic())
            job = self._job(job.id)
        return answer(job.status_document())

    async def status(self, request: web.Request) -> web.Response:
        """A job's state, with progress or result as `output`."""
        return answer(self._job(request.match_info["job_id"]).status_document())

    async def stream(self, request: web.Request) -> web.Response:
        """A job's state; there are no parts, since the worker's handler yields none."""
        return answer({"status": self._job(request.match_info["job_id"]).status.value, "stream": []})

    async def cancel(self, request: web.Request) -> web.Response:
        """End a job, queued or running; one that has ended stays as it is."""
        job, stops = self.registry.queue.cancel(request.match_info["job_id"])
        if job is None:
            raise _unknown()
        self.registry.stop(stops)
        return answer({"id": job.id, "status": job.status.value})

    async def retry(self, request: web.Request) -> web.Response:
        """Queue a failed or timed-out job again."""
        job = self._job(request.match_info["job_id"])
        again = self.registry.queue.retry(job.id)
        if again is None:
            raise Refused(409, f"only FAILED and TIMED_OUT jobs can be retried, this one is {job.status}")
        return answer({"id": again.id, "status": again.status.value})

    async def purge_queue(self, _: web.Request) -> web.Response:
        """Cancel every job that waits."""
        removed = self.registry.queue.purge()
        return answer({"removed": removed, "status": "completed"})

    async def health(self, _: web.Request) -> web.Response:
        """How many jobs and workers are in which state."""
        return answer({"jobs": self.registry.queue.counts(), "workers": self.registry.counts()})

    async def _submit(self, request: web.Request, *, max_bytes: int, is_sync: bool) -> Job:
        if self.registry.is_closing:
            raise Refused(503, "the endpoint is shutting down")
        seconds = self.settings.request_seconds
        body = parse_object(await read_body(request, max_bytes=max_bytes, seconds=seconds))
        try:
            asked = RunRequest.model_validate(body)
        except ValidationError as error:
            raise Refused(400, "; ".join(problems(error, RunRequest, body))) from None
        if asked.webhook is not None:
            try:  # what can never be called is refused; the host's name is looked up only when it is
                check_written_address(check_url(asked.webhook, self.intake), self.intake)
            except AddressRefused as error:
                raise Refused(400, f"webhook: {error}") from None
        return self.registry.queue.submit(
            f"{'sync-' if is_sync else ''}{uuid.uuid4()}-l1",
            orjson.dumps(body),
            webhook=asked.webhook,
            is_sync=is_sync,
            execution_timeout_seconds=_seconds(asked.policy.executionTimeout),
            ttl_seconds=_seconds(asked.policy.ttl),
        )

    def _job(self, job_id: str) -> Job:
        job = self.registry.queue.get(job_id)
        if job is None:
            raise _unknown()
        return job


def _unknown() -> Refused:
    return Refused(404, "there is no such job; jobs past their ttl and old results are deleted")


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _wait_ms(request: web.Request) -> int:
    wait_ms = whole_number(request.query.get("wait", str(DEFAULT_WAIT_MS)))
    if wait_ms is None or not MIN_WAIT_MS <= wait_ms <= MAX_WAIT_MS:
        raise Refused(400, f"wait must be {MIN_WAIT_MS} to {MAX_WAIT_MS} milliseconds")
    return wait_ms
