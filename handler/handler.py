"""One job from dict to dict: validates it, runs it in the one compute thread, turns any error into a reply.

Independent of RunPod's SDK, which calls `Handler.handle`, and of what a job does.
"""

import asyncio
import contextvars
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError

from handler.context import JobContext, JobControl
from handler.errors import ErrorCode, InputError, JobError, WorkerError
from handler.job import ErrorReply, JobInput, ProgressMessage, Reply
from handler.logs import Redactor, job_context, job_secrets
from handler.problems import problems
from handler.progress import ProgressPump, Report
from handler.scratch import Scratch
from handler.settings import WorkerSettings

Job = Mapping[str, Any]

MAX_REPLY_BYTES = 256 * 1024  # the platform drops results over about 20 MB; ours are pointers
# No reply is sent: the caller has cancelled, or the queue gives the job to another worker.
UNANSWERED = (ErrorCode.CANCELLED, ErrorCode.SHUTTING_DOWN)
EARLY_STOP_SECONDS = 3.0  # how long a stop is remembered for a job that has not begun

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    input_sha256: str
    control: JobControl
    task: asyncio.Task[dict[str, Any]]


class Handler:
    """Runs jobs one at a time. Lives as long as the worker process; keeps nothing of a finished job.

    Args:
        run: does the work of one job, in the compute thread; raises JobError.
        settings: limits.
        scratch: where the job's folder is made.
        redactor: takes secrets out of error messages.
        send_progress: delivers a job's progress message within the given seconds, or gives it up for good.
        memory_bytes: how much memory this process holds.

    Attributes:
        leaving: why this worker takes no more jobs; None while it does.
    """

    def __init__(
        self,
        run: Callable[[JobContext], Reply],
        *,
        settings: WorkerSettings,
        scratch: Scratch,
        redactor: Redactor,
        send_progress: Callable[[Job, ProgressMessage, float], None] = lambda job, message, seconds: None,
        memory_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._run = run
        self._settings = settings
        self._scratch = scratch
        self._redactor = redactor
        self._send_progress = send_progress
        self._memory_bytes = memory_bytes
        self._memory_at_start = memory_bytes()
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="compute")  # its queue is the device's lock
        self._running: dict[str, _Running] = {}
        self._refused: dict[str, float] = {}  # until when
        self._num_done = 0
        self.leaving: str | None = None

    async def handle(self, job: Job) -> dict[str, Any]:
        """The reply to one job: the fields of `Reply` or of `ErrorReply`, small and strictly JSON.

        The same id twice at the same time runs once, and both calls get its reply.

        Raises:
            asyncio.CancelledError: the job was cancelled, or this worker is shutting down. Nothing must be
                posted then: a cancelled job has its status already, and an unanswered job goes back to the
                queue when its worker is gone.
        """
        job_id = str(job.get("id", "unknown"))
        with job_context(job_id):
            if self._refused.pop(job_id, 0.0) > time.monotonic():
                log.info("job was stopped before it began")
                raise asyncio.CancelledError
            if self.leaving:
                log.warning("this worker takes no more jobs", reason=self.leaving)
                raise asyncio.CancelledError
            try:
                return await self._answer(job, job_id)
            except Exception as error:  # noqa: BLE001 - the one place where every error becomes a reply
                return self._error_reply(error, job_id)

    def stop(self, code: ErrorCode, message: str) -> None:
        """Ask every running job to end with this WorkerError, within a frame."""
        for running in list(self._running.values()):
            running.control.stop(code, message)

    def refuse(self, job_id: str) -> None:
        """End a job at once if it begins within the next seconds: it was stopped before it began.

        Not for longer, since the same id may be submitted again.
        """
        now = time.monotonic()
        self._refused = {other: until for other, until in self._refused.items() if until > now}
        self._refused[job_id] = now + EARLY_STOP_SECONDS

    async def _answer(self, job: Job, job_id: str) -> dict[str, Any]:
        request, input_sha256 = parse(job)
        running = self._running.get(job_id)
        if running is None:
            control = JobControl(time_budget_seconds=self._settings.time_budget_seconds)
            work = self._work(job, job_id, request, input_sha256, control)
            running = _Running(input_sha256=input_sha256, control=control, task=asyncio.create_task(work))
            self._running[job_id] = running
            running.task.add_done_callback(lambda _: self._forget(job_id, running))
        elif running.input_sha256 != input_sha256:
            raise InputError(
                ErrorCode.DUPLICATE_JOB, "a job with this id and another input is running; use another id"
            )
        try:
            return dict(await asyncio.shield(running.task))
        except asyncio.CancelledError:
            running.control.stop(ErrorCode.CANCELLED, "the job was cancelled")
            self._forget(job_id, running)  # a retry of the same id must not join a job that is ending
            raise

    def _forget(self, job_id: str, running: _Running) -> None:
        if self._running.get(job_id) is running:
            del self._running[job_id]

    async def _work(
        self, job: Job, job_id: str, request: JobInput, input_sha256: str, control: JobControl
    ) -> dict[str, Any]:
        """The reply, unless there must be none. Does not wait for a compute thread that has stalled."""

        def send(message: ProgressMessage, seconds: float) -> None:
            if not control.stopped():  # no update may follow the reply to a job that was given up
                self._send_progress(job, message, seconds)

        def compute() -> Reply:
            pump = ProgressPump(
                send,
                interval_seconds=self._settings.progress_interval_seconds,
                drain_seconds=self._settings.progress_drain_seconds,
            )
            with self._scratch.job() as folder, pump:
                control.check()
                work = JobContext(
                    job_id=job_id,
                    request=request,
                    input_sha256=input_sha256,
                    folder=folder,
                    control=control,
                    report=Report(pump.put),
                )
                try:
                    return self._run(work)
                except SystemExit as error:  # of a library; it would end the SDK's loop
                    raise RuntimeError("the job called sys.exit") from error

        with self._redactor.hiding(job_secrets(request)):
            context = contextvars.copy_context()
            done = asyncio.get_running_loop().run_in_executor(self._compute, context.run, compute)
            try:
                return self._success(await self._watch(done, control))
            except Exception as error:  # noqa: BLE001 - as above; the job's secrets are only known here
                if isinstance(error, JobError) and error.code in UNANSWERED:
                    log.info("job ended without an answer", reason=error.code)
                    raise asyncio.CancelledError from None
                return self._error_reply(error, job_id)

    async def _watch(self, done: asyncio.Future[Reply], control: JobControl) -> Reply:
        limit = self._settings.stall_seconds
        while True:
            await asyncio.wait({done}, timeout=min(1.0, limit / 4))
            if done.done():
                return done.result()
            if control.silence_seconds() > limit:
                control.stop(ErrorCode.STALLED, "given up")  # ends the thread if it ever continues
                done.add_done_callback(lambda future: future.exception())  # or asyncio warns
                raise WorkerError(ErrorCode.STALLED, f"the job made no progress for {limit:.0f} s")

    def _success(self, reply: Reply) -> dict[str, Any]:
        body = reply.model_dump(mode="json")
        for warning in body["warnings"]:
            warning["message"] = self._redactor(warning["message"])
        if len(json.dumps(body, allow_nan=False)) > MAX_REPLY_BYTES:
            raise RuntimeError("the reply is too large")
        self._num_done += 1
        if reason := self._reason_to_recycle():
            self.leaving = reason
            body["refresh_worker"] = True
        log.info(
            "job completed", frames=reply.frames, people=reply.people, fps=reply.fps, reused=reply.reused
        )
        return body

    def _reason_to_recycle(self) -> str | None:
        settings = self._settings
        if settings.recycle_after_jobs and self._num_done >= settings.recycle_after_jobs:
            return f"{self._num_done} jobs done"
        growth = self._memory_bytes() - self._memory_at_start
        if settings.recycle_growth_bytes and growth > settings.recycle_growth_bytes:
            return f"memory grew by {growth >> 20} MiB"
        return None

    def _error_reply(self, error: Exception, job_id: str) -> dict[str, Any]:
        stage = error.stage if isinstance(error, JobError) else None
        if isinstance(error, JobError) and error.code != ErrorCode.INTERNAL:
            log.warning("job failed", error_code=error.code, error=error.message, stage=stage)
        else:
            log.error("job failed unexpectedly", stage=stage, exc_info=error)
            message = f"unexpected error; the worker's log has it under job {job_id}"
            error = WorkerError(ErrorCode.INTERNAL, message, stage=stage)
        if error.code.refresh_worker:
            self.leaving = error.code
        return ErrorReply(
            error=self._redactor(f"{error.code}: {error.message}"),
            error_code=error.code,
            retryable=error.code.retryable,
            stage=error.stage,
            job_id=self._redactor(job_id),
            refresh_worker=True if error.code.refresh_worker else None,
        ).model_dump(mode="json", exclude_none=True)


def parse(job: Job) -> tuple[JobInput, str]:
    """The valid request in a job, and the SHA-256 of its input as canonical JSON.

    Raises:
        InputError: INPUT_INVALID, with the path of each wrong field and the reason, never its value.
    """
    raw = job.get("input")
    try:
        request = JobInput.model_validate(raw)
        canonical = json.dumps(raw, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValidationError as error:
        message = "; ".join(problems(error, JobInput, raw))
        raise InputError(ErrorCode.INPUT_INVALID, message, stage="validate") from None
    except (TypeError, ValueError, RecursionError):
        raise InputError(ErrorCode.INPUT_INVALID, "the input is not plain JSON", stage="validate") from None
    return request, hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()
