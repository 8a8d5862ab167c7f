"""A job as the endpoint keeps it, and what its caller sees of it. Knows nothing of how it is kept."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from handler.errors import EndpointError


class State(StrEnum):
    """RunPod's job states."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMED_OUT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job; the fields are the columns of the queue's table. Times are seconds since the epoch.

    Attributes:
        seq: its place in the queue.
        id: what callers know it by; kept over retries.
        request: the request as JSON: `input`, and whatever else was sent (`webhook`, `policy`, `s3Config`).
        webhook: whom to tell when it ends; None if nobody.
        is_sync: came by /runsync, whose results are kept for a shorter time.
        ttl_seconds: the job is deleted if it has not ended so long after `created_at`.
        started_at: when a worker took it last.
        worker_id: who has it, or had it last.
        lease_until: when that worker counts as lost if nothing is heard from it.
        attempts: workers that took it since it was submitted or retried by its caller.
        retries: times it went back to the queue, for whatever reason.
        output: JSON: the newest progress, then the result.
        error: one sentence that begins with a code, for failed jobs.
        webhook_due_at: when the webhook is to be called; None if it is not (any more).
        webhook_calls: calls so far about this ending.
    """

    seq: int
    id: str
    status: State
    request: bytes
    webhook: str | None
    is_sync: bool
    execution_timeout_seconds: float
    ttl_seconds: float
    created_at: float
    started_at: float | None
    finished_at: float | None
    worker_id: str | None
    lease_until: float | None
    attempts: int
    retries: int
    output: bytes | None
    error: str | None
    webhook_due_at: float | None
    webhook_calls: int

    def __repr__(self) -> str:  # without the request, which holds presigned URLs
        return f"Job(id={self.id!r}, status={self.status}, attempts={self.attempts})"


def for_worker(job: Job) -> dict[str, Any]:
    """What a worker is given."""
    return {**orjson.loads(job.request), "id": job.id}


def failure_output(error: EndpointError, job_id: str) -> bytes:
    """What stands beside an error of the endpoint's own, as beside a worker's."""
    return orjson.dumps({"error_code": error.code, "retryable": error.retryable, "job_id": job_id})


def status_document(job: Job) -> dict[str, Any]:
    """What /status answers, for orjson to write: `delayTime` and `executionTime` in milliseconds."""
    document: dict[str, Any] = {"id": job.id, "status": job.status.value}
    if job.started_at is not None and job.status is not State.IN_QUEUE:
        document["delayTime"] = round((job.started_at - job.created_at) * 1000)
        document["workerId"] = job.worker_id
        if job.finished_at is not None:
            document["executionTime"] = round((job.finished_at - job.started_at) * 1000)
    if job.retries:
        document["retries"] = job.retries
    if job.output is not None:
        document["output"] = orjson.Fragment(job.output)
    if job.error is not None:
        document["error"] = job.error
    return document


def webhook_document(job: Job) -> dict[str, Any]:
    """What the webhook is sent: the status with the request's `input` and `webhook`, as RunPod does."""
    request = orjson.loads(job.request)
    return {**status_document(job), "input": request["input"], "webhook": job.webhook}
