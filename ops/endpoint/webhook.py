"""Calls a job's webhook when it has ended: at least once, and a bounded number of times.

The URL is a stranger's, like a video's, and is reached under the same rules.
"""

import asyncio
import threading
import time
from urllib.parse import urlsplit

import orjson
import structlog

from handler.settings import IntakeSettings
from handler.transfer.addresses import check_url
from handler.transfer.connections import requested
from handler.transfer.errors import Problem, TransferError
from ops.endpoint.jobs import Job
from ops.endpoint.queue import JobQueue

MAX_AT_ONCE = 8

log = structlog.get_logger(__name__)


async def call_due_webhooks(queue: JobQueue, intake: IntakeSettings, timeout_seconds: float) -> int:
    """Call every webhook that is due, a few at a time; returns how many calls were made.

    A call succeeds if it is answered 200 within its time, as on RunPod; redirects are not followed.
    """
    due = queue.claim_webhooks(limit=MAX_AT_ONCE)  # first: an unnoted call would be made again and again
    is_over = threading.Event()
    try:
        accepted = await asyncio.gather(
            *(asyncio.to_thread(_call, job, intake, timeout_seconds, is_over) for job in due)
        )
    finally:
        is_over.set()
    for job, is_accepted in zip(due, accepted, strict=True):
        queue.webhook_called(job, accepted=is_accepted)
    return len(due)


def _call(job: Job, intake: IntakeSettings, timeout_seconds: float, is_over: threading.Event) -> bool:
    assert job.webhook is not None
    deadline = time.monotonic() + timeout_seconds

    def check() -> None:
        if is_over.is_set() or time.monotonic() > deadline:
            raise TimeoutError

    try:
        with requested(
            "POST",
            check_url(job.webhook, intake),
            {"Content-Type": "application/json"},
            rules=intake,
            limits=intake.model_copy(
                update=dict.fromkeys(("connect_seconds", "read_seconds"), timeout_seconds)
            ),
            check=check,
            content=orjson.dumps(job.webhook_document()),
        ) as reply:
            outcome = f"HTTP {reply.status}"
            is_accepted = reply.status == 200
    except TransferError as error:
        is_refused = error.problem in (Problem.ADDRESS_REFUSED, Problem.NOT_HTTPS)
        outcome, is_accepted = f"refused: {error.reason}" if is_refused else error.reason, False
    except OSError as error:
        outcome, is_accepted = type(error).__name__, False  # the message may name the URL
    log.info(
        "called a webhook",
        job_id=job.id,
        host=urlsplit(job.webhook).hostname,  # all that is logged of the URL: the rest may hold a token
        outcome=outcome,
        call=job.webhook_calls + 1,
    )
    return is_accepted
