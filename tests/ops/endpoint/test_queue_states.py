"""Whatever callers, workers, time and crashes do in whatever order, the queue's promises hold."""

import tempfile
from pathlib import Path

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from ops.endpoint.jobs import FINAL, State, Stop
from ops.endpoint.queue import JobQueue
from ops.endpoint.settings import ServeSettings
from tests.ops.endpoint.conftest import Clock

SETTINGS = ServeSettings(
    lease_seconds=10, max_attempts=2, execution_timeout_seconds=40, ttl_seconds=200, result_seconds=30
)
LEGAL = {
    State.IN_QUEUE: {State.IN_PROGRESS, State.CANCELLED, State.COMPLETED, None},
    State.IN_PROGRESS: {State.IN_QUEUE, *FINAL, None},
    State.COMPLETED: {None},
    State.CANCELLED: {None},
    State.FAILED: {State.IN_QUEUE, None},
    State.TIMED_OUT: {State.IN_QUEUE, None},
}
WORKERS = st.sampled_from(["w1", "w2", "w3"])


class QueueMachine(RuleBasedStateMachine):
    """Knows of each job what a caller was told, and checks that it only ever changes in legal ways."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.queue = self.open()
        self.seen: dict[str, State | None] = {}
        self.results: dict[str, bytes | None] = {}
        self.owed: set[str] = set()

    def open(self) -> JobQueue:
        queue = JobQueue(Path(self.folder.name) / "queue.sqlite3", SETTINGS, self.clock)
        queue.db.execute("PRAGMA synchronous = OFF")  # the test loses no power, and is ten times faster
        return queue

    @precondition(lambda self: len(self.seen) < 4)  # few jobs, so that much happens to each
    @rule(target=jobs, has_webhook=st.booleans())
    def submit(self, has_webhook: bool) -> str:
        job_id = f"job-{len(self.seen)}"
        job = self.queue.submit(job_id, b'{"input":{}}', webhook="http://me" if has_webhook else None)
        self.seen[job_id] = job.status
        return job_id

    @rule(worker=WORKERS, limit=st.integers(1, 3))
    def take(self, worker: str, limit: int) -> None:
        waiting = [name for name in self.seen if self.seen[name] is State.IN_QUEUE]
        taken = self.queue.take(worker, limit)
        assert min(limit, len(waiting)) == len(taken)
        for job in taken:
            assert job.id in waiting
            assert 1 <= job.attempts <= SETTINGS.max_attempts

    @rule(worker=WORKERS, job_ids=st.lists(jobs, max_size=3))
    def ping(self, worker: str, job_ids: list[str]) -> None:
        stops = {stop.job_id for stop in self.queue.heartbeat(worker, job_ids)}
        for job_id in job_ids:
            job = self.queue.get(job_id)
            if job is not None and job.status is State.IN_PROGRESS:
                assert (job.worker_id != worker) == (job_id in stops)
            if job is None or job.status in (State.CANCELLED, State.TIMED_OUT):
                assert job_id in stops

    @rule(worker=WORKERS, job_id=jobs)
    def report_progress(self, worker: str, job_id: str) -> None:
        before = self.queue.get(job_id)
        changed = self.queue.progress(job_id, worker, b'"progress"')
        held = before is not None and before.status is State.IN_PROGRESS and before.worker_id == worker
        assert held == changed

    @rule(worker=WORKERS, job_id=jobs, fails=st.booleans())
    def finish(self, worker: str, job_id: str, fails: bool) -> None:
        before = self.queue.get(job_id)
        ended = self.queue.finish(job_id, worker, b'"result"', "X: y" if fails else None)
        if ended:
            assert before is not None
            assert before.status not in FINAL
            assert before.worker_id == worker
            self.results[job_id] = b'"result"'
            self._owe(job_id)
        assert not self.queue.finish(job_id, worker, b'"again"'), "a second report changes nothing"

    @rule(worker=WORKERS, its_fault=st.booleans())
    def worker_dies(self, worker: str, its_fault: bool) -> None:
        for job in self.queue.release(worker, its_fault=its_fault):
            assert job.status is State.IN_QUEUE or (its_fault and job.status is State.FAILED)
            self._owe(job.id)
        assert worker not in self.queue.busy_workers()

    @rule(worker=WORKERS)
    def worker_takes_and_dies(self, worker: str) -> None:
        if not self.queue.busy_workers() & {worker}:
            self.take(worker, 1)
            self.states_change_only_in_legal_ways()
            self.worker_dies(worker, its_fault=True)

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        before = self.queue.get(job_id)
        after, stops = self.queue.cancel(job_id)
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert after.status is (before.status if before.status in FINAL else State.CANCELLED)
            running = before.status is State.IN_PROGRESS
            assert stops == ([Stop(before.worker_id, job_id)] if running else [])

    @rule(job_id=jobs)
    def retry(self, job_id: str) -> None:
        if self.queue.retry(job_id) is not None:
            assert self.seen[job_id] in (State.FAILED, State.TIMED_OUT)
            self.results.pop(job_id, None)
            self.owed.discard(job_id)

    @rule()
    def purge(self) -> None:
        waiting = sum(state is State.IN_QUEUE for state in self.seen.values())
        assert waiting == self.queue.purge()

    @rule(seconds=st.sampled_from([1, 6, 11, 41, 201]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.queue.sweep()
        for job_id in self.seen:
            job = self.queue.get(job_id)
            if job is not None and job.status in (State.FAILED, State.TIMED_OUT):
                self._owe(job_id)

    @rule(accepted=st.booleans())
    def call_webhooks(self, accepted: bool) -> None:
        for job in self.queue.claim_webhooks(9):
            assert job.status in FINAL - {State.CANCELLED}
            assert job.webhook_calls < SETTINGS.webhook_attempts
            self.queue.webhook_called(job, accepted=accepted)
            self.owed.discard(job.id)

    @rule()
    def endpoint_is_killed(self) -> None:
        abandoned, self.queue = self.queue, self.open()
        abandoned.close()
        self.queue.renew_leases()

    @invariant()
    def states_change_only_in_legal_ways(self) -> None:
        for job_id, before in self.seen.items():
            job = self.queue.get(job_id)
            now = None if job is None else job.status
            if before is None:
                assert now is None, "a forgotten job never comes back"
            elif now is not before:
                assert now in LEGAL[before], f"{before} to {now}"
            self.seen[job_id] = now

    @invariant()
    def every_kept_job_is_whole(self) -> None:
        for job_id in self.seen:
            job = self.queue.get(job_id)
            if job is None:
                continue
            assert (job.status in FINAL) == (job.finished_at is not None)
            assert (job.status is State.IN_PROGRESS) == (job.lease_until is not None)
            assert (job.status in (State.FAILED, State.TIMED_OUT)) == (job.error is not None)
            assert 0 <= job.attempts <= SETTINGS.max_attempts
            if job_id in self.results:
                assert self.results[job_id] == job.output, "a result stays as it was reported"

    @invariant()
    def ended_jobs_with_a_webhook_are_not_forgotten_before_a_call(self) -> None:
        for job_id in self.owed:
            assert self.queue.get(job_id) is not None

    def _owe(self, job_id: str) -> None:
        job = self.queue.get(job_id)
        if job is not None and job.status in FINAL and job.webhook and not job.webhook_calls:
            assert job.webhook_due_at is not None
            self.owed.add(job_id)

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()


TestQueueStates = QueueMachine.TestCase
TestQueueStates.settings = hypothesis_settings(max_examples=25, stateful_step_count=50, deadline=None)
