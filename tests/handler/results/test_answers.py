"""What buckets answer, or do not answer, and what becomes of the file: the file counts, not the answer."""

import itertools

import pytest

from handler.context import unstoppable
from handler.errors import ErrorCode, ResultError, WorkerError
from handler.results.upload import upload
from tests.fault_proxy import Answer, AnswerTo, Stall
from tests.handler.results.places import MEBIBYTE, make_file, store_of, stored

SINGLE, PARTS = 100_000, 12 * MEBIBYTE


@pytest.mark.parametrize("status", [None, 504], ids=["lost", "504"])
@pytest.mark.parametrize(
    ("size", "request_line", "times"),
    [
        (PARTS, b"^POST .*uploadId=", 1),
        (PARTS, b"^POST .*uploadId=", 1000),
        (PARTS, b"^PUT .*partNumber=2", 1),
        (PARTS, b"^POST .*uploads", 1),
        (SINGLE, b"^PUT ", 1),
        (SINGLE, b"^PUT ", 1000),
        (SINGLE, b"^HEAD ", 1000),
    ],
    ids=["complete", "every complete", "part", "begin", "single", "every single", "every look"],
)
def test_lost_answer_is_no_lost_file(s3, proxy, request, tmp_path, size, request_line, times, status):
    """The store did what it was asked, only its answer is missing: the file is there, so it is stored."""
    prefix = request.node.callspec.id.replace(" ", "-")
    file = make_file(tmp_path, size)
    store = store_of("bucket", s3.behind(proxy.url), prefix)
    proxy.fault = AnswerTo(request=request_line, status=status, times=times)

    (artifact,) = upload(store, [file], check=unstoppable, seconds=60)

    assert stored(s3, prefix) == file.path.read_bytes()
    assert artifact == file.artifact(f"{prefix}/{file.sha256[:16]}/frames.jsonl.gz")


@pytest.mark.parametrize("there", [b"", b"other"], ids=["nothing", "other bytes"])
def test_refusal_stays_one_if_the_file_is_not_there(s3, proxy, tmp_path, there):
    """Of what lies under the key only the very same bytes count."""
    file = make_file(tmp_path, SINGLE)
    store = store_of("bucket", s3.behind(proxy.url), f"refused-{len(there)}")
    if there:
        s3.put(store.key(file.kind, file.sha256), bytes(SINGLE))
    proxy.fault = AnswerTo(request=b"^PUT ", status=403, is_done=False)

    with pytest.raises(ResultError) as denied:
        store.put(file, unstoppable)
    assert denied.value.code == "UPLOAD_DENIED"


@pytest.mark.parametrize("size", [SINGLE, PARTS], ids=["single", "parts"])
def test_answer_of_another_server_is_coded(s3, proxy, tmp_path, size):
    """A page with status 200 in the store's place is no result, and no bug."""
    store = store_of("bucket", s3.behind(proxy.url), f"page-{size}", attempts=1)
    proxy.fault = Answer(status=200, body=[b"<html>Welcome, please log in"])

    with pytest.raises(ResultError) as failed:
        store.put(make_file(tmp_path, size), unstoppable)
    assert failed.value.code == "UPLOAD_FAILED"


@pytest.mark.parametrize(
    ("size", "request_line", "status", "code"),
    [
        (SINGLE, b"^PUT ", 400, "BadDigest"),
        (SINGLE, b"^PUT ", 400, "OperationAborted"),
        (SINGLE, b"^PUT ", 400, "IncompleteBody"),
        (PARTS, b"^PUT .*partNumber=2", 404, "NoSuchUpload"),
        (PARTS, b"^POST .*uploadId=", 404, "NoSuchUpload"),
    ],
    ids=["damaged on its way", "another writer", "incomplete", "part of an ended upload", "ended upload"],
)
def test_refusal_of_the_moment_is_tried_again(s3, proxy, request, tmp_path, size, request_line, status, code):
    """An upload that another worker, or the store itself, has ended begins again, too."""
    prefix = f"moment-{request.node.callspec.id.replace(' ', '-')}"
    attempts = 1 if code == "NoSuchUpload" else 2
    store = store_of("bucket", s3.behind(proxy.url), prefix, attempts=attempts)
    proxy.fault = AnswerTo(request=request_line, status=status, code=code, is_done=False, times=1)
    file = make_file(tmp_path, size)

    store.put(file, unstoppable)

    assert stored(s3, prefix) == file.path.read_bytes()


@pytest.mark.parametrize(
    ("place", "act"),
    [
        ("bucket", lambda store, file, check: store.put(file, check)),
        ("bucket", lambda store, file, check: store.summary(check)),
        (
            "bucket",
            lambda store, file, check: store.holds(file.artifact(store.key(file.kind, file.sha256)), check),
        ),
        ("presigned", lambda store, file, check: store.put(file, check)),
    ],
    ids=["put", "summary", "read back", "presigned"],
)
def test_cancel_ends_a_wait_for_a_silent_store(s3, proxy, tmp_path, place, act):
    """Nobody waits for an answer whose job is over: the request is left to its own limit."""
    store = store_of(place, s3.behind(proxy.url), "silent", read_seconds=30.0)
    proxy.fault = Stall()
    checks = itertools.count()

    def check() -> None:
        if next(checks) > 3:
            raise WorkerError(ErrorCode.CANCELLED, "the job was cancelled")

    with pytest.raises(WorkerError) as ended:
        act(store, make_file(tmp_path, SINGLE), check)

    assert ended.value.code == "CANCELLED"
    assert proxy.num_connections <= 1
