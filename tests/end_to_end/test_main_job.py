"""The main job with the real parts: presigned video, endpoint, worker process, webhook, S3.

Only the networks are fakes, which see coloured rectangles, so that the result is known exactly.
"""

import gzip
import hashlib
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.end_to_end.conftest import LONG_FRAMES, SHORT_FRAMES, System
from tests.end_to_end.webhook_receiver import webhook_receiver
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(120)
SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
STAGES = ["download", "probe", "decode", "perceive", "track", "write", "overlay", "upload"]


def check_schema(document: object, name: str) -> None:
    """The document is what its published schema says."""
    jsonschema.validate(document, json.loads((SCHEMAS / f"{name}.schema.json").read_text()))


def test_presigned_video_becomes_tracked_people_on_s3(system: System) -> None:
    """Progress in order and before the result, webhook, artifacts that match their hashes and schemas."""
    endpoint = system.endpoint
    with webhook_receiver() as receiver:
        job_id = endpoint.submit(
            {
                "input": {
                    "video_url": system.store.presign("get_object", "videos/long.mp4"),
                    "output": {"prefix": "customers/42"},
                    "options": {"artifacts": ["frames.json", "overlay.mp4"]},
                },
                "webhook": f"{receiver.url}/done?token=abc",
            }
        )
        progress: list[dict[str, Any]] = []

        def is_over() -> bool:
            document = endpoint.status(job_id)
            if document["status"] == "IN_PROGRESS" and document.get("output") not in (None, *progress[-1:]):
                progress.append(document["output"])
            return document["status"] not in ("IN_QUEUE", "IN_PROGRESS")

        wait_until(is_over)
        document = endpoint.status(job_id)
        (call,) = wait_until(lambda: receiver.bodies)
    assert document["status"] == "COMPLETED", document
    for message in progress:
        check_schema(message, "progress")
    done = [message["frames_done"] for message in progress]
    stages = [STAGES.index(message["stage"]) for message in progress]
    assert done == sorted(done)
    assert max(done) > 0
    assert stages == sorted(stages)

    reply = document["output"]
    check_schema(reply, "reply")
    assert (reply["frames"], reply["people"]) == (LONG_FRAMES, 2)
    assert receiver.paths == ["/done?token=abc"]
    assert {key: call[key] for key in document} == document
    assert call["input"]["output"] == {"prefix": "customers/42"}
    assert call["webhook"] == f"{receiver.url}/done?token=abc"

    prefix = f"customers/42/{job_id}/"
    kinds = {artifact["kind"]: artifact for artifact in reply["artifacts"]}
    assert set(kinds) == {"result.json", "frames.jsonl.gz", "frames.json", "overlay.mp4"}
    assert system.store.keys(prefix) == sorted(artifact["key"] for artifact in kinds.values())
    for kind, artifact in kinds.items():
        data = system.store.get(artifact["key"])
        folder = "" if kind == "result.json" else artifact["sha256"][:16] + "/"
        assert artifact["key"] == prefix + folder + kind
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact["bytes"], artifact["sha256"])

    summary = json.loads(system.store.get(prefix + "result.json"))
    check_schema(summary, "result")
    assert summary["processed"]["frames"] == LONG_FRAMES
    assert [track["track_id"] for track in summary["tracks"]] == [1, 2]
    lines = gzip.decompress(system.store.get(kinds["frames.jsonl.gz"]["key"])).splitlines()
    frames = [json.loads(line) for line in lines]
    schema = json.loads((SCHEMAS / "frame.schema.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for frame in frames[:: LONG_FRAMES // 20]:
        validator.validate(frame)
    assert [frame["frame"] for frame in frames] == list(range(LONG_FRAMES))
    assert all(len(frame["people"]) == 2 for frame in frames[:40])
    assert json.loads(system.store.get(kinds["frames.json"]["key"]))["frames"] == frames
    assert system.left_behind() == []


def test_results_can_go_to_presigned_urls(system: System) -> None:
    """The worker needs no keys then; a URL signed for something else is UPLOAD_DENIED."""
    kinds = ("result.json", "frames.jsonl.gz")
    put_urls = {kind: system.store.presign("put_object", f"put/{kind}") for kind in kinds}
    video_url = system.store.presign("get_object", "videos/short.mp4")
    document = system.endpoint.wait(system.endpoint.run(video_url=video_url, output={"put_urls": put_urls}))
    assert document["status"] == "COMPLETED", document
    assert system.store.keys("put/") == ["put/frames.jsonl.gz", "put/result.json"]
    lines = gzip.decompress(system.store.get("put/frames.jsonl.gz")).splitlines()
    assert len(lines) == SHORT_FRAMES
    denied = {**put_urls, "result.json": system.store.presign("get_object", "put/other.json")}
    document = system.endpoint.wait(system.endpoint.run(video_url=video_url, output={"put_urls": denied}))
    assert document["output"]["error_code"] == "UPLOAD_DENIED"


def test_worker_killed_in_the_middle_of_a_job_loses_nothing(system: System) -> None:
    """SIGKILL while frames are tracked: the next worker runs the job, and no file of the first is left."""
    job_id = system.endpoint.run(video_url=system.store.presign("get_object", "videos/long.mp4"))
    wait_until(lambda: system.endpoint.status(job_id).get("output", {}).get("frames_done", 0) > 0)
    victim = system.endpoint.status(job_id)["workerId"]
    (line,) = re.findall(rf".*started a worker.*{victim}.*", system.endpoint.log.read_text())
    os.kill(int(re.findall(r"pid=(\d+)", line)[0]), signal.SIGKILL)
    document = system.endpoint.wait(job_id)
    assert (document["status"], document["retries"]) == ("COMPLETED", 1)
    assert document["workerId"] != victim
    keys = {artifact["kind"]: artifact["key"] for artifact in document["output"]["artifacts"]}
    lines = gzip.decompress(system.store.get(keys["frames.jsonl.gz"])).splitlines()
    assert len(lines) == LONG_FRAMES
    assert system.left_behind() == []


def test_cancelled_job_leaves_nothing(system: System) -> None:
    """No artifact, no temporary file, and the worker is free for the next job."""
    job_id = system.endpoint.run(video_url=system.store.presign("get_object", "videos/long.mp4"))
    wait_until(lambda: system.endpoint.status(job_id).get("output", {}).get("frames_done", 0) > 0)
    assert system.endpoint.call("POST", f"cancel/{job_id}").json()["status"] == "CANCELLED"
    wait_until(lambda: not system.left_behind())
    after = system.endpoint.run(video_url=system.store.presign("get_object", "videos/short.mp4"))
    assert system.endpoint.wait(after)["status"] == "COMPLETED"
    assert system.store.keys(job_id) == []  # a late upload would have come before the next job's


def test_link_that_does_not_work_is_told_apart_and_never_logged(system: System) -> None:
    """The storage enforces signatures; the caller learns which it is; no log has a presigned URL or a key."""
    good, missing = (
        system.store.presign("get_object", f"videos/{name}.mp4") for name in ("short", "nothing")
    )
    expected = {
        good: None,
        good[:-1] + ("0" if good[-1] != "0" else "1"): "DOWNLOAD_DENIED",
        good.replace("short", "long"): "DOWNLOAD_DENIED",
        system.store.presign("get_object", "videos/short.mp4", expires_seconds=-60): "DOWNLOAD_DENIED",
        missing: "DOWNLOAD_NOT_FOUND",
    }
    for url, code in expected.items():
        document = system.endpoint.wait(system.endpoint.run(video_url=url))
        assert document["output"].get("error_code") == code
        assert "X-Amz" not in json.dumps(document)
        if code:
            check_schema({**document["output"], "error": document["error"]}, "error-reply")
    log = system.endpoint.log.read_text()
    worker_key = (system.endpoint.data / "worker.key").read_text()
    assert document["id"] in log
    assert not [s for s in ("X-Amz-Signature", system.store.secret_access_key, worker_key) if s in log]
