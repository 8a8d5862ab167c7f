"""The real SDK's loop around the real stages: nothing is done twice, and no update follows a reply."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.conftest import WorkerProcess
from tests.contract.fake_queue import FakeQueue
from tests.handler.rig import NUM_FRAMES, QUERY, SECRET, make_clip
from tests.http_source import Fault, HttpSource
from tests.s3_server import S3Server, s3_server


@pytest.fixture(scope="module")
def source() -> Iterator[HttpSource]:
    """Where the videos are."""
    with HttpSource() as source:
        yield source


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Where the results go."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def whole_worker(
    queue: FakeQueue, bucket: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    """A worker with every real stage; only the networks are fakes."""
    process = WorkerProcess(
        queue,
        tmp_path_factory.mktemp("worker"),
        module="tests.end_to_end.fake_models_worker",
        VIDEO_ALLOW_HTTP="true",
        VIDEO_ALLOW_PRIVATE_ADDRESSES="true",
        VIDEO_ALLOWED_PORTS="[]",
        VIDEO_RESERVE_DISK_BYTES="0",
        **bucket.environment(),
    )
    try:
        yield process.ready()
    finally:
        process.close()


def test_job_delivered_twice_is_done_once(
    queue: FakeQueue, whole_worker: WorkerProcess, source: HttpSource, bucket: S3Server, tmp_path: Path
) -> None:
    """The second delivery is answered from the first one's results; the video is fetched once."""
    url = source.add("twice.mp4", make_clip(tmp_path / "clip.mp4")) + QUERY
    for _ in range(2):
        queue.submit("twice", {"video_url": url})
    queue.wait(lambda: len(queue.of("twice", "done")) == 2, 40)

    first, second = (event.body["output"] for event in queue.of("twice", "done"))
    assert (first["frames"], first["reused"], second["reused"]) == (NUM_FRAMES, False, True)
    assert second == {**first, "reused": True}
    assert [seen.path for seen in source.requests].count(f"/twice.mp4{QUERY}") == 1
    assert bucket.keys("twice/") == sorted(artifact["key"] for artifact in first["artifacts"])


def test_no_progress_follows_a_reply(
    queue: FakeQueue, whole_worker: WorkerProcess, source: HttpSource, tmp_path: Path
) -> None:
    """Neither after a result nor after an error does an update come that would re-open the job."""
    queue.progress_delay_seconds = 0.1  # slower than the stages
    good = source.add("good.mp4", make_clip(tmp_path / "clip.mp4")) + QUERY
    bad = source.add("bad.mp4", b"x" * 10_000) + QUERY
    gone = source.add("gone.mp4", b"x", always=Fault(status=404)) + QUERY
    jobs = {"good": good, "bad": bad, "gone": gone}
    try:
        for job_id, url in jobs.items():
            queue.submit(job_id, {"video_url": url})
        for job_id in jobs:
            queue.result(job_id, 40)
        time.sleep(0.5)  # an update that followed a reply would be here by now
    finally:
        queue.progress_delay_seconds = 0.0

    for job_id in jobs:
        kinds = [event.kind for event in queue.events if event.job_id == job_id and event.kind != "ping"]
        assert kinds[-1] == "done"
        assert kinds.count("done") == 1
    assert len(queue.of("good", "progress")) >= 2
    assert queue.of("good", "progress")[-1].body["output"]["frames_done"] == NUM_FRAMES
    assert SECRET not in whole_worker.output.read_text() + json.dumps([event.body for event in queue.events])
