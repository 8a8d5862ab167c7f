"""Two workers with one job, whose bytes differ: whoever stores what when, the summary matches its files."""

import hashlib
import itertools
import threading
from pathlib import Path

import pytest

from handler.job import Artifact, ArtifactKind, Reply
from handler.results.bucket import object_key
from handler.results.document import ResultDocument
from handler.results.store import LocalFile, local_file
from handler.results.upload import commit, find_complete, upload
from tests.handler.results.places import nothing, store_of
from tests.handler.results.test_golden import make

STEPS = 4  # of each worker: the frames, end_uploads, a look, the summary


class Memory:
    """A store that is a dictionary; `turn` is called before each of its operations."""

    bucket = "results"

    def __init__(self, objects: dict[str, bytes], turn=nothing) -> None:
        self._objects = objects
        self._turn = turn

    def key(self, kind: ArtifactKind, sha256: str) -> str:
        return object_key("job/", kind, sha256)

    def put(self, file: LocalFile, check) -> Artifact:
        self._turn()
        artifact = file.artifact(self.key(file.kind, file.sha256))
        self._objects[artifact.key or ""] = file.path.read_bytes()
        return artifact

    def summary(self, check) -> bytes | None:
        self._turn()
        return self._objects.get("job/result.json")

    def holds(self, artifact: Artifact, check) -> bool:
        content = self._objects.get(artifact.key or "", b"")
        return hashlib.sha256(content).hexdigest() == artifact.sha256

    def end_uploads(self, check) -> None:
        self._turn()


class Worker:
    """A worker at the end of its job, which takes one step at a time."""

    def __init__(self, name: str, objects: dict[str, bytes], document: ResultDocument, folder: Path) -> None:
        self.reply: Reply | None = None
        self._folder = folder / name
        self._may, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, args=(name, objects, document))
        self._thread.start()
        self._waits.acquire()

    def _turn(self) -> None:
        self._waits.release()
        self._may.acquire()

    def _work(self, name: str, objects: dict[str, bytes], document: ResultDocument) -> None:
        store = Memory(objects, self._turn)
        self._folder.mkdir(exist_ok=True)
        path = self._folder / "frames.jsonl.gz"
        path.write_bytes(f"frames of {name}".encode())
        artifacts = upload(store, [local_file("frames.jsonl.gz", path)], check=nothing, seconds=60)
        mine = document.model_copy(update={"artifacts": artifacts})
        self.reply = commit(store, mine, into=self._folder, check=nothing, seconds=60)
        self._waits.release()

    def step(self) -> None:
        """Do the next operation of the store, if there is one."""
        if self._thread.is_alive():
            self._may.release()
            self._waits.acquire()
        if self.reply is not None:
            self._thread.join()


def assert_whole(objects: dict[str, bytes]) -> None:
    """What a reader finds at this moment is no summary, or one whose files are all there."""
    content = objects.get("job/result.json")
    if content is not None:
        for artifact in ResultDocument.model_validate_json(content).artifacts:
            assert hashlib.sha256(objects[artifact.key or ""]).hexdigest() == artifact.sha256


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The summary, but for its files."""
    return make(tmp_path_factory.mktemp("document"))[0]


def test_summary_matches_its_files_in_every_order_of_steps(document, tmp_path):
    """All orders of two workers' steps, seen after each step: so also with a worker killed at any of them."""
    for later in itertools.combinations(range(1, 2 * STEPS), STEPS - 1):
        order = {0, *later}  # the steps of the one who begins
        objects: dict[str, bytes] = {}
        workers = [Worker(name, objects, document, tmp_path) for name in ("first", "second")]
        for position in range(2 * STEPS):
            workers[0 if position in order else 1].step()
            assert_whole(objects)
        for worker in workers:
            assert worker.reply is not None
            for artifact in worker.reply.artifacts[:-1]:  # every reply's data are there, and stay
                assert hashlib.sha256(objects[artifact.key or ""]).hexdigest() == artifact.sha256


def test_slower_worker_answers_with_the_result_that_stands(s3, document, tmp_path):
    """In a real bucket: the first complete result is kept, and both workers reply with it."""
    found = []
    for name in ("fast", "slow"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "frames.jsonl.gz"
        path.write_bytes(name.encode() * 100)
        store = store_of("bucket", s3, "twins")
        found.append((store, upload(store, [local_file("frames.jsonl.gz", path)], check=nothing, seconds=60)))
    (fast, of_fast), (slow, of_slow) = found

    first = commit(
        fast, document.model_copy(update={"artifacts": of_fast}), into=tmp_path, check=nothing, seconds=60
    )
    stands = s3.get("twins/result.json")
    second = commit(
        slow, document.model_copy(update={"artifacts": of_slow}), into=tmp_path, check=nothing, seconds=60
    )

    assert second == first.model_copy(update={"reused": True})
    assert s3.get("twins/result.json") == stands
    assert (
        find_complete(slow, job_id="golden-1", input_sha256="1" * 64, into=tmp_path, check=nothing) == second
    )
