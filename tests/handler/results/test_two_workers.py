"""Two workers with one job, whose bytes differ: whoever stores what when, the summary matches its files."""

import hashlib
import itertools
import threading
from pathlib import Path

from handler.job import Artifact, ArtifactKind, Reply
from handler.results.bucket import object_key
from handler.results.document import ResultDocument
from handler.results.store import LocalFile, Store
from tests.handler.results.places import complete
from tests.handler.results.test_golden import make

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
