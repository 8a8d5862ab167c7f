"""Results arrive whole or the job says why not, on a real S3 server behind a network that misbehaves."""

import hashlib
import itertools
from dataclasses import replace

import pytest

from handler.context import unstoppable
from handler.errors import ErrorCode, ResultError, WorkerError
from handler.results.upload import upload
from tests.fault_proxy import Answer, AnswerTo, Cut, Slow, Stall
from tests.handler.results.places import MEBIBYTE, PLACES, assert_no_secret, make_file, store_of, stored


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [0, 1000, 12 * MEBIBYTE], ids=["empty", "small", "three-parts"])
def test_file_arrives_whole(s3, tmp_path, place, size):
    """The object has the file's bytes and type, and the artifact tells both."""
    file = make_file(tmp_path, size)
    prefix = f"whole-{place}-{size}"

    (artifact,) = upload(store_of(place, s3, prefix), [file], check=unstoppable, seconds=60)

    key = f"{prefix}/{file.sha256[:16]}/frames.jsonl.gz" if place == "bucket" else f"{prefix}/frames.jsonl.gz"
    assert s3.get(key) == file.path.read_bytes()
    head = s3.client().head_object(Bucket=s3.bucket, Key=key)
    assert (head["ContentType"], head.get("ContentEncoding")) == ("application/gzip", None)
    assert (artifact.bytes, artifact.sha256) == (size, hashlib.sha256(file.path.read_bytes()).hexdigest())
    assert artifact.key == (key if place == "bucket" else None)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "fault",
    [Cut(after_bytes=300_000, times=1), Answer(status=503, times=1), AnswerTo(request=b"^PUT ", times=1)],
    ids=["gone-mid-upload", "503", "lost-answer"],
)
def test_passing_fault_is_survived(s3, proxy, tmp_path, place, fault):
    """A broken connection, a busy server or a lost answer once costs another attempt, nothing else."""
    file = make_file(tmp_path, 2 * MEBIBYTE)
    prefix = f"passing-{place}-{fault.__class__.__name__}"
    store = store_of(place, s3.behind(proxy.url), prefix)
    proxy.fault = replace(fault)  # it counts down

    upload(store, [file], check=unstoppable, seconds=60)

    assert stored(s3, prefix) == file.path.read_bytes()
    assert proxy.num_connections > 1


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("fault", "read_seconds", "seconds"),
    [
        (Cut(after_bytes=300_000), 0.7, 60),
        (Answer(status=500), 0.7, 60),
        (Stall(after_bytes=300_000), 0.7, 60),
        (Slow(bytes_per_second=200_000), 10.0, 0.5),
        (None, 0.7, 60),
    ],
    ids=["gone-mid-upload", "500", "stalled", "crawling", "nobody-listens"],
)
def test_lasting_fault_is_coded(s3, proxy, tmp_path, place, fault, read_seconds, seconds):
    """A server that stays broken, or takes 40 s, is UPLOAD_FAILED, worth a retry; nothing is half-written."""
    prefix = f"lasting-{place}-{fault.__class__.__name__}"
    server = s3.behind(proxy.url if fault else "http://127.0.0.1:1")
    store = store_of(place, server, prefix, read_seconds=read_seconds, connect_seconds=0.7)
    proxy.fault = fault

    with pytest.raises(ResultError) as failed:
        upload(store, [make_file(tmp_path, 8 * MEBIBYTE)], check=unstoppable, seconds=seconds)

    error = failed.value
    assert (error.code, error.code.retryable, error.stage) == ("UPLOAD_FAILED", True, "upload")
    assert s3.keys(prefix) == []
    assert_no_secret(error, s3)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size", [2 * MEBIBYTE, 12 * MEBIBYTE], ids=["single", "multipart"])
def test_cancel_ends_an_upload_under_way(s3, tmp_path, place, size):
    """The job's own error comes out, and nothing is stored."""
    prefix = f"cancel-{place}-{size}"
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 20:
            raise WorkerError(ErrorCode.CANCELLED, "the job was cancelled")

    with pytest.raises(WorkerError) as ended:
        upload(store_of(place, s3, prefix), [make_file(tmp_path, size)], check=check, seconds=60)

    assert ended.value.code == "CANCELLED"
    assert len(calls) < 25  # not retried
    assert s3.keys(prefix) == []


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
    [("bucket", "put"), ("bucket", "summary"), ("bucket", "holds"), ("presigned", "put")],
)
def test_cancel_ends_a_wait_for_a_silent_store(s3, proxy, tmp_path, place, act):
    """Nobody waits for an answer whose job is over: the request is left to its own limit."""
    store = store_of(place, s3.behind(proxy.url), "silent", read_seconds=30.0)
    proxy.fault = Stall()
    file, checks = make_file(tmp_path, SINGLE), itertools.count()
    about = {"put": [file], "summary": [], "holds": [file.artifact(f"silent/{file.sha256[:16]}/{file.kind}")]}

    def check() -> None:
        if next(checks) > 3:
            raise WorkerError(ErrorCode.CANCELLED, "the job was cancelled")

    with pytest.raises(WorkerError) as ended:
        getattr(store, act)(*about[act], check)

    assert ended.value.code == "CANCELLED"
    assert proxy.num_connections <= 1
