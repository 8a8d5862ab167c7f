"""Where results go, that the summary comes last, and that a finished job is found again."""

import hashlib
import itertools
import threading
from pathlib import Path

import pytest

from handler.context import unstoppable
from handler.errors import ResultError
from handler.job import Artifact, ArtifactKind, BucketOutput, Reply
from handler.results.bucket import object_key
from handler.results.document import ResultDocument
from handler.results.store import Folder, LocalFile, Store
from handler.results.upload import find_complete, open_store, upload
from handler.settings import BucketSettings, IntakeSettings
from tests.handler.results.places import LOCAL, complete, make_file, settings, store_of
from tests.handler.results.test_golden import make


def find(store, folder, *, job_id="golden-1", input_sha256="1" * 64):
    """The answer of an earlier run, by default of the job of `complete`."""
    return find_complete(store, job_id=job_id, input_sha256=input_sha256, into=folder, check=unstoppable)


@pytest.mark.parametrize("bucket", [None, "some"], ids=["no bucket", "no keys"])
def test_no_place_for_the_results_is_refused(bucket):
    """Without a bucket and its keys, or URLs, the job does not start."""
    with pytest.raises(ResultError) as refused:
        open_store(BucketOutput(bucket=bucket), "j", bucket=BucketSettings(), intake=IntakeSettings())
    assert (refused.value.code, refused.value.stage) == ("OUTPUT_NOT_ALLOWED", "validate")


def test_keys_lie_under_root_prefix_and_job(s3):
    """`{root}/{prefix}/{job}/result.json`, and the data in a folder named by their hash."""
    limits = settings(s3, root_prefix="tenant-1")

    store = open_store(BucketOutput(prefix="a/"), "job/9", bucket=limits, intake=LOCAL)

    key = store.key("result.json", "0" * 64)
    assert key.startswith("tenant-1/a/job_9-")
    assert key.endswith("/result.json")
    assert store.key("frames.json", "a" * 64) == key.replace("result.json", "aaaaaaaaaaaaaaaa/frames.json")


def test_folder_never_shows_a_summary_beside_other_files(tmp_path):
    """Plain files, complete or absent; a second run takes the summary away before it changes a file."""
    out = tmp_path / "out" / "clip"
    store = open_store(BucketOutput(), "j", bucket=BucketSettings(), intake=LOCAL, folder=out)
    _, reply = complete(store, tmp_path)
    assert [artifact.key for artifact in reply.artifacts] == ["frames.jsonl.gz", "result.json"]
    assert {path.name for path in out.iterdir()} == {"frames.jsonl.gz", "result.json"}

    file = make_file(tmp_path, 100)
    upload(store, [file], check=unstoppable, seconds=5)

    assert [path.name for path in out.iterdir()] == ["frames.jsonl.gz"]
    assert (out / "frames.jsonl.gz").read_bytes() == file.path.read_bytes()
    assert isinstance(store, Folder)


@pytest.mark.parametrize(
    ("job", "is_found"),
    [({}, True), ({"input_sha256": "f" * 64}, False), ({"job_id": "other"}, False)],
    ids=["same", "other-input", "other-id"],
)
def test_finished_job_is_found_again(s3, request, tmp_path, job, is_found):
    """The same id and input give the earlier reply, only marked as reused; others are other jobs."""
    store = store_of("bucket", s3, f"again-{request.node.callspec.id}")
    _, reply = complete(store, tmp_path)
    assert (reply.job_id, reply.bucket, reply.reused, reply.models) == ("golden-1", s3.bucket, False, "lite")
    assert (reply.frames, reply.people, reply.duration_s, reply.fps) == (6, 2, pytest.approx(0.2), 3.0)
    assert len(reply.model_dump_json()) < 2000

    assert find(store, tmp_path, **job) == (reply.model_copy(update={"reused": True}) if is_found else None)


def test_slower_worker_answers_with_the_result_that_stands(s3, tmp_path):
    """The first complete result is kept, and both workers reply with it."""
    _, first = complete(store_of("bucket", s3, "twins"), tmp_path, frames=b"fast")
    stands = s3.get("twins/result.json")
    _, second = complete(store_of("bucket", s3, "twins"), tmp_path, frames=b"slow")

    assert second == first.model_copy(update={"reused": True})
    assert s3.get("twins/result.json") == stands


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-1],
        lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
        lambda content: bytes(len(content)),
        lambda content: None,
    ],
    ids=["cut", "one-bit", "zeros", "gone"],
)
def test_result_with_other_bytes_is_not_reused(s3, request, tmp_path, change):
    """A summary whose frames are gone, cut or changed at equal length is no result; the next run mends it."""
    store = store_of("bucket", s3, f"changed-{request.node.callspec.id}")
    _, reply = complete(store, tmp_path)
    key = reply.artifacts[0].key
    content = s3.get(key)

    s3.client().delete_object(Bucket=s3.bucket, Key=key)
    if change(content) is not None:
        s3.put(key, change(content))
    assert find(store, tmp_path) is None

    complete(store, tmp_path)
    assert s3.get(key) == content
    assert find(store, tmp_path) is not None


def test_summary_that_points_elsewhere_is_not_reused(s3, tmp_path):
    """Keys of a summary that are not this job's own are not followed."""
    store = store_of("bucket", s3, "elsewhere")
    document, reply = complete(store, tmp_path)
    stray = reply.artifacts[0].model_copy(update={"key": "other/frames.jsonl.gz"})
    s3.put("other/frames.jsonl.gz", s3.get(reply.artifacts[0].key))
    changed = document.model_copy(update={"artifacts": (stray,)})
    s3.put("elsewhere/result.json", changed.model_dump_json(by_alias=True).encode())

    assert find(store, tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"schema": "other/2.0"}', b"[" * 10_000])
def test_foreign_summary_is_ignored(s3, tmp_path, content):
    """Whatever else lies under that key is not taken for a result."""
    s3.put("foreign/result.json", content)

    assert find(store_of("bucket", s3, "foreign"), tmp_path) is None


def test_presigned_places_cannot_be_asked(s3, tmp_path):
    """URLs that can only be written never claim an earlier result."""
    store = store_of("presigned", s3, "ask")
    complete(store, tmp_path)

    assert find(store, tmp_path) is None


STEPS = 4  # of each worker: the frames, end_uploads, a look, the summary


class Memory(Store):
    """A store that is a dictionary; `turn` is called before each of its operations."""

    bucket = "results"

    def __init__(self, objects: dict[str, bytes], turn) -> None:
        self._objects = objects
        self._turn = turn

    def key(self, kind: ArtifactKind, sha256: str) -> str:
        return object_key("job/", kind, sha256)

    def put(self, file: LocalFile, check) -> Artifact:
        self._turn()
        artifact = file.artifact(self.key(file.kind, file.sha256))
        self._objects[artifact.key] = file.path.read_bytes()
        return artifact

    def summary(self, check) -> bytes | None:
        self._turn()
        return self._objects.get("job/result.json")

    def holds(self, artifact: Artifact, check) -> bool:
        return is_there(self._objects, artifact)

    def end_uploads(self, check) -> None:
        self._turn()


def is_there(objects: dict[str, bytes], artifact: Artifact) -> bool:
    """Whether the artifact's very bytes lie under its key."""
    return hashlib.sha256(objects.get(artifact.key, b"")).hexdigest() == artifact.sha256


class Worker(threading.Thread):
    """A worker at the end of its job, which takes one step at a time."""

    def __init__(self, objects: dict[str, bytes], document: ResultDocument, folder: Path) -> None:
        super().__init__()
        self.reply: Reply | None = None
        self._objects, self._document, self._folder = objects, document, folder
        self._may, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        folder.mkdir(exist_ok=True)
        self.start()
        self._waits.acquire()

    def _turn(self) -> None:
        self._waits.release()
        self._may.acquire()

    def run(self) -> None:
        store, frames = Memory(self._objects, self._turn), self._folder.name.encode()
        _, self.reply = complete(store, self._folder, frames=frames, document=self._document)
        self._waits.release()

    def step(self) -> None:
        """Do the next operation of the store, if there is one."""
        if self.reply is None:
            self._may.release()
            self._waits.acquire()


def test_summary_matches_its_files_in_every_order_of_steps(tmp_path):
    """All orders of two workers' steps, seen after each step: so also with a worker killed at any of them."""
    document, _ = make(tmp_path)
    for later in itertools.combinations(range(1, 2 * STEPS), STEPS - 1):
        order = {0, *later}  # the steps of the one who begins
        objects: dict[str, bytes] = {}
        workers = [Worker(objects, document, tmp_path / name) for name in ("first", "second")]
        for position in range(2 * STEPS):
            workers[0 if position in order else 1].step()
            if content := objects.get("job/result.json"):  # a reader finds all its files at any moment
                artifacts = ResultDocument.model_validate_json(content).artifacts
                assert all(is_there(objects, artifact) for artifact in artifacts)
        for worker in workers:
            worker.join()
            assert worker.reply is not None
            assert all(is_there(objects, artifact) for artifact in worker.reply.artifacts[:-1])
