"""Tells a caller's URL that a job has ended: at least once, a bounded number of times. Knows no worker."""

import asyncio
from urllib.parse import urlsplit

import aiohttp
import orjson
import structlog

from handler.local.jobs import Job, webhook_document
from handler.local.queue import JobQueue

MAX_AT_ONCE = 8

log = structlog.get_logger(__name__)


async def call_due_webhooks(queue: JobQueue, session: aiohttp.ClientSession, timeout_seconds: float) -> int:
    """Call every webhook that is due, a few at a time; returns how many calls were made.

    A call succeeds if it is answered 200, as on RunPod; redirects are not followed.
    """
    due = queue.due_webhooks(limit=MAX_AT_ONCE)
    accepted = await asyncio.gather(*(_call(job, session, timeout_seconds) for job in due))
    for job, is_accepted in zip(due, accepted, strict=True):
        queue.webhook_called(job, accepted=is_accepted)
    return len(due)


async def _call(job: Job, session: aiohttp.ClientSession, timeout_seconds: float) -> bool:
    assert job.webhook is not None
    host = urlsplit(job.webhook).hostname  # all that is logged of the URL: the rest may hold a token
    try:
        async with session.post(
            job.webhook,
            data=orjson.dumps(webhook_document(job)),
            headers={"Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            allow_redirects=False,
        ) as reply:
            outcome = f"HTTP {reply.status}"
            is_accepted = reply.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        outcome, is_accepted = type(error).__name__, False  # the message names the URL
    log.info("called a webhook", job_id=job.id, host=host, outcome=outcome, call=job.webhook_calls + 1)
    return is_accepted
