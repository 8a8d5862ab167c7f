"""What stores answer, or do not answer, and what becomes of the file: the file counts, not the answer."""

import itertools
import time
from collections.abc import Iterator

import pytest

from handler.errors import ErrorCode, ResultError, WorkerError
from handler.results.upload import upload
from tests.fault_proxy import Answer, AnswerTo, Stall
from tests.handler.results.places import MEBIBYTE, make_file, nothing, store_of, stored

SINGLE, PARTS = 100_000, 12 * MEBIBYTE


def dripping() -> Iterator[bytes]:
    """A byte now and then, for ever."""
    while True:
        yield b"x"
        time.sleep(0.05)


@pytest.mark.parametrize(
    "body",
    [
        lambda: [bytes(MEBIBYTE)] * 64,
        dripping,
        lambda: (b"%x\r\n%b\r\n" % (4096, bytes(4096)) for _ in range(16_000)),
    ],
    ids=["huge", "dripping", "chunks"],
)
def test_status_of_a_presigned_put_decides(s3, proxy, tmp_path, body):
    """The rest of an answer is not read, however much there is or however slowly it comes."""
    store = store_of("presigned", s3.behind(proxy.url), "long-answer")
    proxy.fault = Answer(status=200, body=body())

    upload(store, [make_file(tmp_path, 1000)], check=nothing, seconds=2)

    assert proxy.num_connections == 1
    assert proxy.num_body_bytes < 24 * MEBIBYTE  # what fits into the sockets' buffers


@pytest.mark.parametrize("closing", [True, False], ids=["closes", "takes nothing more"])
def test_answer_before_the_whole_body_counts(s3, proxy, tmp_path, closing):
    """A refusal while the file is still being sent is a refusal, not a broken connection."""
    store = store_of("presigned", s3.behind(proxy.url), "early", read_seconds=0.5)
    proxy.fault = Answer(status=403, early=True, closing=closing)

    with pytest.raises(ResultError) as denied:
        store.put(make_file(tmp_path, PARTS), nothing)

    assert denied.value.code == "UPLOAD_DENIED"
    assert proxy.num_connections == 1


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

    (artifact,) = upload(store, [file], check=nothing, seconds=60)

    assert stored(s3, prefix) == file.path.read_bytes()
    assert artifact == file.artifact(f"{prefix}/{file.sha256[:16]}/frames.jsonl.gz")


def test_lost_answer_of_a_presigned_put_costs_another_put(s3, proxy, tmp_path):
    """Sending the same bytes to the same URL again changes nothing."""
    file = make_file(tmp_path, SINGLE)
    store = store_of("presigned", s3.behind(proxy.url), "put-again")
    proxy.fault = AnswerTo(request=b"^PUT ", times=1)

    upload(store, [file], check=nothing, seconds=60)

    assert stored(s3, "put-again") == file.path.read_bytes()
    assert proxy.num_connections == 2


@pytest.mark.parametrize("there", [b"", b"other"], ids=["nothing", "other bytes"])
def test_refusal_stays_one_if_the_file_is_not_there(s3, proxy, tmp_path, there):
    """Of what lies under the key only the very same bytes count."""
    file = make_file(tmp_path, SINGLE)
    store = store_of("bucket", s3.behind(proxy.url), f"refused-{len(there)}")
    key = store.key(file.kind, file.sha256)
    if there:
        s3.put(key, bytes(SINGLE))
    proxy.fault = AnswerTo(request=b"^PUT ", status=403, is_done=False)

    with pytest.raises(ResultError) as denied:
        store.put(file, nothing)

    assert denied.value.code == "UPLOAD_DENIED"


@pytest.mark.parametrize(
    "request_line", [b"^PUT .*partNumber=2", b"^POST .*uploadId="], ids=["part", "complete"]
)
def test_upload_that_somebody_ended_begins_again(s3, proxy, tmp_path, request_line):
    """Another worker that finished the job ends what is under way; a store may forget it, too."""
    file = make_file(tmp_path, PARTS)
    store = store_of("bucket", s3.behind(proxy.url), f"ended-{len(request_line)}", attempts=1)
    proxy.fault = AnswerTo(request=request_line, status=404, code="NoSuchUpload", is_done=False, times=1)

    artifact = store.put(file, nothing)

    assert s3.get(artifact.key) == file.path.read_bytes()


@pytest.mark.parametrize("size", [SINGLE, PARTS], ids=["single", "parts"])
def test_answer_of_another_server_is_coded(s3, proxy, tmp_path, size):
    """A page with status 200 in the store's place is no result, and no bug."""
    store = store_of("bucket", s3.behind(proxy.url), f"page-{size}", attempts=1)
    proxy.fault = Answer(status=200, body=[b"<html>Welcome, please log in"])

    with pytest.raises(ResultError) as failed:
        upload(store, [make_file(tmp_path, size)], check=nothing, seconds=60)

    assert failed.value.code == "UPLOAD_FAILED"


@pytest.mark.parametrize("code", ["BadDigest", "OperationAborted", "IncompleteBody"])
def test_refusal_of_the_moment_is_tried_again(s3, proxy, tmp_path, code):
    """A body damaged on its way, or another writer at the same moment, costs another attempt."""
    store = store_of("bucket", s3.behind(proxy.url), f"moment-{code}")
    proxy.fault = AnswerTo(request=b"^PUT ", status=400, code=code, is_done=False, times=1)

    artifact = store.put(make_file(tmp_path, SINGLE), nothing)

    assert s3.keys(f"moment-{code}") == [artifact.key]


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
