"""Whatever a job does for long, it asks again and again whether it must end, and ends at once if so."""

import threading
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from handler.context import CHUNK_BYTES, JobControl, unstoppable
from handler.errors import ComputeError, ErrorCode, WorkerError
from handler.job import ChosenPerson, Options, ProgressMessage
from handler.people.perceive import perceive
from handler.progress import Report
from handler.results.overlay import overlay
from handler.results.store import Folder, local_file
from handler.results.write import write, write_document
from handler.settings import IntakeSettings
from handler.source.packets import first_look
from handler.source.probe import probe
from model_cache.errors import DeviceFault, DeviceOutOfMemory
from model_cache.interfaces import PerceptionOptions
from tests.fakes import FakeBody, FakeModels, FakePerception
from tests.handler.results.factories import make_facts, walk
from tests.handler.results.places import complete
from tests.handler.results.test_overlay import pictures
from tests.handler.rig import NUM_FRAMES, Rig, before_frame
from tests.video_factory import make_video
from tests.waiting import wait_until

SETTINGS = IntakeSettings(reserve_disk_bytes=0)
Check = Callable[[], None]
Task = Callable[[Check], object]  # something long, which asks `check` again and again


def write_lines(folder: Path, person: ChosenPerson | None = None) -> Task:
    """Frames to lines."""
    options = Options(person=person)
    return lambda check: write(walk(20), options=options, body=FakeBody(), into=folder, check=check)


def replay_waiting_frames(folder: Path) -> Task:
    """All but the last frame wait on the disk until the chosen person is known."""
    return write_lines(folder, ChosenPerson(time_s=19 / 30, point=(119, 200)))


def write_one_document(folder: Path) -> Task:
    """Lines to one document."""
    written = write(walk(20), options=Options(), body=FakeBody(), into=folder)
    return lambda check: write_document(written, options=Options(), job_id="j", into=folder, check=check)


def hash_a_result(folder: Path) -> Task:
    """A file of four chunks and a byte."""
    path = folder / "large"
    path.write_bytes(bytes(4 * CHUNK_BYTES + 1))
    return lambda check: local_file("overlay.mp4", path, check)


def copy_a_result(folder: Path) -> Task:
    """The same into the folder of `track`."""
    hash_a_result(folder)
    file = local_file("overlay.mp4", folder / "large")
    return lambda check: Folder(folder / "out").put(file, check)


def hash_a_local_video(folder: Path) -> Task:
    """A video that no download has hashed."""
    path = make_video(folder / "clip.mp4", num_frames=2)
    with path.open("ab") as file:  # a box of padding: length, name, zeros
        file.write((4 * CHUNK_BYTES).to_bytes(4, "big") + b"free")
        file.truncate(path.stat().st_size + 4 * CHUNK_BYTES)
    return lambda check: probe(path, SETTINGS, check=check)


def look_for_the_first_picture(folder: Path) -> Task:
    """A file whose first half holds nothing that can be decoded."""
    path = make_video(folder / "clip.mp4", num_frames=40)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        first, middle = packets[0].pos, packets[20].pos
    data = bytearray(path.read_bytes())
    data[first:middle] = bytes(middle - first)
    path.write_bytes(data)
    return lambda check: first_look(path, SETTINGS, check)


def store_a_summary(folder: Path) -> Task:
    """The last step of a job, into the folder of `track`."""
    return lambda check: complete(Folder(folder / "out"), folder)


def draw_an_overlay(folder: Path) -> Task:
    """Every frame once when it is drawn and once when the encoder gives it back at the end."""
    frames = list(walk(6))
    written = write(frames, options=Options(), body=FakeBody(), into=folder)

    more = {"facts": make_facts(), "body": FakeBody(), "into": folder, "num_frames": 6}
    skeleton = Options(overlay_style="skeleton")
    return lambda check: overlay(pictures(frames), written.frames_path, options=skeleton, check=check, **more)


def perceive_frame_by_frame(folder: Path) -> Task:
    """A batch that does not fit is tried again, each frame alone."""

    def too_many(indices: object) -> None:
        if len(indices) > 1:  # type: ignore[arg-type]
            raise DeviceOutOfMemory

    perception, options = FakePerception(before=too_many), PerceptionOptions()
    rest = {"batch_frames": 8, "clear_cache": lambda: None, "clear_every_frames": 0}
    return lambda check: list(perceive(pictures(walk(8)), perception, options, check=check, **rest))


@pytest.mark.parametrize(
    ("make", "num_units"),
    [
        (write_lines, 20),
        (replay_waiting_frames, 20),
        (write_one_document, 20),
        (hash_a_result, 5),
        (copy_a_result, 5),
        (hash_a_local_video, 5),
        (look_for_the_first_picture, 20),
        (draw_an_overlay, 12),
        (perceive_frame_by_frame, 9),
    ],
)
def test_long_work_ends_wherever_it_is_told_to(tmp_path, make: Callable[[Path], Task], num_units) -> None:
    """It asks once per frame, packet or megabyte; told to end, it asks nothing more and is over."""
    task = make(tmp_path)
    asked = count_calls(task)
    assert asked >= num_units
    for last in {1, 2, asked // 2, asked - 1, asked}:
        assert count_calls(task, stop_at=last) == last


@pytest.mark.parametrize(
    ("make", "name", "stage"),
    [
        (write_lines, "frames.jsonl.gz", "write"),
        (write_one_document, "frames.json", "write"),
        (draw_an_overlay, "overlay.mp4", "overlay"),
        (store_a_summary, "result.json", "upload"),
    ],
)
def test_full_disk_is_coded(tmp_path: Path, make: Callable[[Path], Task], name: str, stage: str) -> None:
    """A disk that fills up is DISK_FULL of its stage; any other error of the disk stays what it is."""
    task, path = make(tmp_path), tmp_path / name
    path.symlink_to("/dev/full")
    with pytest.raises(WorkerError) as failed:
        task(unstoppable)
    assert (failed.value.code, failed.value.stage) == ("DISK_FULL", stage)

    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        task(unstoppable)


def count_calls(task: Task, *, stop_at: int | None = None) -> int:
    """How often a task asks, if the answer is no from the `stop_at`-th time on."""
    num_calls = 0

    def check() -> None:
        nonlocal num_calls
        num_calls += 1
        if stop_at is not None and num_calls >= stop_at:
            raise WorkerError(ErrorCode.CANCELLED, "the job was cancelled")

    if stop_at is None:
        task(check)
    else:
        with pytest.raises(WorkerError, match="CANCELLED"):
            task(check)
    return num_calls


class ListeningControl(JobControl):
    """Counts which function asks."""

    def __init__(self) -> None:
        super().__init__(time_budget_seconds=600.0)
        self.askers: Counter[str] = Counter()

    def check(self) -> None:
        """As it is, and noted."""
        self.askers[traceback.extract_stack(limit=2)[0].name] += 1
        super().check()


def test_whole_job_asks_in_everything_that_takes_long(rig: Rig) -> None:
    """The pipeline hands the check to each of its stages, the last ones too."""
    control = ListeningControl()
    options = {
        "artifacts": ["frames.json", "overlay.mp4"],
        "person": {"time_s": 1.0, "point": [270, 150]},  # most frames wait for the choice
    }
    rig.run_alone(rig.job("asked", options=options), control, Report(lambda message: None))

    per_frame = ("watch", "write", "write_document", "overlay")
    assert {name: control.askers[name] for name in per_frame if control.askers[name] < NUM_FRAMES} == {}
    assert control.askers["finish"] >= 1
    assert control.askers["read_chunks"] >= 2 * 3  # three files of data
    assert control.askers["_people_in_images"] >= NUM_FRAMES // 8


@pytest.mark.parametrize("stage", ["download", "probe", "decode", "perceive", "track", "overlay", "upload"])
def test_job_is_cancelled_in_each_stage(rig: Rig, stage: str) -> None:
    """Wherever a stop comes, the job ends at its next check, with nothing stored and nothing left."""
    control = JobControl(time_budget_seconds=60.0)

    def stop(_: object = None) -> None:
        control.stop(ErrorCode.CANCELLED, "by the caller")

    def publish(message: ProgressMessage) -> None:
        stages.append(message.stage)
        if message.stage == stage:
            stop()

    stages: list[str] = []
    if stage == "perceive":
        rig.models = FakeModels(perception=FakePerception(before=stop))
    job = rig.job(f"cancel-{stage}", options={"artifacts": ["overlay.mp4"]})
    with pytest.raises(WorkerError, match="CANCELLED"):
        rig.run_alone(job, control, Report(publish))
    assert stages[-1] == ("decode" if stage == "perceive" else stage)
    assert rig.bucket.keys(f"cancel-{stage}") == []


def test_failed_stage_leaves_nothing_running(rig: Rig) -> None:
    """Threads and files are closed by the time the error comes out, not when its traceback is forgotten."""
    rig.models = FakeModels(perception=before_frame(12, DeviceFault("x")))
    rig.limits = {"decode_queue_frames": 1}  # the decoder is in the middle of the clip
    with pytest.raises(ComputeError) as caught:
        rig.run_alone(rig.job("closed"), JobControl(time_budget_seconds=60.0), Report(lambda message: None))
    assert rig.leftovers() == []
    assert caught.value.code == "GPU_FAULT"


def test_job_that_hangs_in_a_model_is_stalled(rig: Rig) -> None:
    """A model that never comes back fails the job, which is answered without it."""
    release = threading.Event()
    rig.models = FakeModels(perception=FakePerception(before=lambda indices: release.wait(30) and None))
    rig.limits = {"stall_seconds": 0.5}
    reply = rig.run(rig.job("hangs"))
    release.set()
    wait_until(lambda: not rig.leftovers())  # the abandoned job ends by itself, and cleans up

    assert (reply["error_code"], reply["refresh_worker"]) == ("STALLED", True)
    assert rig.bucket.keys("hangs") == []
