"""The command `track`: words as people type them, one video, results in a folder."""

import contextlib
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import pytest
from rich.console import Console
from typer.testing import CliRunner

import model_cache.load
from model_cache.errors import WeightsMissing
from model_cache.interfaces import Models
from ops.command_line import app, main
from ops.track_command import track
from tests.fakes import FakeBody, FakeModels, draw_people
from tests.handler.rig import before_frame, local_settings
from tests.video_factory import make_video


class Run:
    """`track` over fake models, with what it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded = 0
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.missing = False
        self.scratch = folder / "scratch"
        self.models = FakeModels()

    def __call__(self, *words: str, out: Path | None = None) -> int:
        """The exit code."""
        return track(
            words,
            out,
            self.load,
            local_settings(self.scratch),
            console=Console(file=self.output, width=200),
            errors=Console(file=self.errors, width=200, soft_wrap=True),
        )

    def load(self) -> Models:
        """Fake models, or none."""
        self.loaded += 1
        if self.missing:
            raise WeightsMissing("hmr2.safetensors is not in the store; run model_cache fetch")
        return self.models


@pytest.fixture
def run(tmp_path: Path, own_logging: None) -> Run:
    """`track`."""
    return Run(tmp_path)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Somebody red, standing, for 12 frames."""
    boxes = {"red": (40, 40, 104, 200)}
    path = tmp_path / "my clip.mp4"
    return make_video(path, num_frames=12, size=(320, 240), draw=lambda _, size: draw_people(boxes, size))


def test_track_writes_the_files_and_says_so(run: Run, clip: Path, tmp_path: Path) -> None:
    """One command turns a file into results in a folder, and leaves nothing else behind."""
    out = tmp_path / "out"
    assert run(str(clip), "artifacts=[frames.json,overlay.mp4]", out=out) == 0

    names = ["frames.json", "frames.jsonl.gz", "overlay.mp4", "result.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert json.loads((out / "result.json").read_text())["processed"]["frames"] == 12
    text = run.output.getvalue()
    assert "12 frames (0.4 s), 1 people" in text
    assert all(f"wrote {out / name}" in text for name in names)
    assert "note: fake models" in text
    assert list((tmp_path / "scratch").glob("worker-*")) == []
    assert clip.exists()


def test_a_folder_of_pictures_is_a_video(run: Run, tmp_path: Path) -> None:
    """As they are, in natural order and at the rate that was given; other files are left alone."""
    folder, out = tmp_path / "frames", tmp_path / "out"
    folder.mkdir()
    for index, name in enumerate(["1.jpg", "2.jpg", "10.JPG"]):
        boxes = {"red": (40 + 60 * index, 40, 104 + 60 * index, 200)}
        cv2.imwrite(str(folder / name.lower()), draw_people(boxes, (320, 240)))
        (folder / name.lower()).rename(folder / name)
    (folder / "notes.txt").touch()

    assert run(str(folder), "--render.fps", "12.5", "phalp.n_init=1", "artifacts=overlay.mp4", out=out) == 0
    lines = [
        json.loads(line) for line in gzip.decompress((out / "frames.jsonl.gz").read_bytes()).splitlines()
    ]
    assert [line["time_s"] for line in lines] == [0.0, 0.08, 0.16]
    assert [round(line["people"][0]["bbox_xyxy"][0]) for line in lines] == [40, 100, 160]
    assert (out / "overlay.mp4").exists()
    assert list((tmp_path / "scratch").glob("worker-*")) == []


def test_a_folder_of_something_else_is_refused(run: Run, tmp_path: Path) -> None:
    """By the name of the file, before or after the models are loaded."""
    (tmp_path / "a.jpg").write_text("no picture")

    assert run(str(tmp_path)) == 1
    assert run.errors.getvalue() == f"error: {tmp_path}/a.jpg is no JPEG picture (VIDEO_UNREADABLE)\n"


def test_options_may_be_typed_with_dashes() -> None:
    """`--stride 2` reaches the words; --out and --models stay the command's own."""
    words = ["track", "nowhere.mp4", "--stride", "2", "--out", "out", "--strid=3", "-m"]
    done = CliRunner().invoke(app, words)

    assert done.exit_code == 2
    assert done.stderr.splitlines()[0] == "error: --strid is not known; did you mean stride?"
    assert done.stderr.splitlines()[1].startswith("error: -m is not known; there are --models, --out, ")
    assert CliRunner().invoke(app, ["track"]).stderr.startswith("error: no video is named; an example: ")


def test_track_again_replaces_the_results(run: Run, clip: Path, tmp_path: Path) -> None:
    """A second run with other options does not answer with the first one's files."""
    out = tmp_path / "out"
    run(str(clip), out=out)
    run(str(clip), "stride=2", f"video.output_dir={out}")

    assert json.loads((out / "result.json").read_text())["processed"]["frames"] == 6


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["docs"], 1, "error: docs: the folder holds no .jpg files; make a video of other pictures, "),
        (["http://u:secretpass@127.0.0.1:1/a?sig=secretsig"], 1, "error: the URL must"),
        (
            ["a.mp4", "fps=25"],
            2,
            "error: render.fps is for a folder of pictures; a video has times of its own",
        ),
        (
            ["http://u:secretpass@a.example/a?sig=secretsig", "b.mp4", "strid=2"],
            2,
            "error: strid is not known; did you mean stride?\nerror: a command tracks one video (options are "
            "typed as in stride=2), not http://a.example/a?[hidden] and b.mp4\n",
        ),
    ],
    ids=["no pictures", "url", "fps", "words"],
)
def test_track_explains_what_is_wrong(run: Run, words: list[str], code: int, message: str) -> None:
    """Each mistake is one line on stderr, without a traceback and without a secret."""
    assert run(*words) == code

    assert run.errors.getvalue().startswith(message)
    assert "secret" not in run.errors.getvalue() + run.output.getvalue()


def test_track_checks_everything_before_it_loads_models(run: Run, clip: Path, tmp_path: Path) -> None:
    """What is wrong with video and folders costs no minute of loading, is told at once, leaves nothing."""
    notes = tmp_path / "notes.txt"
    notes.write_text("not a video")
    blocked = notes / "scratch"
    run.scratch = blocked
    assert run(r"C:\clips\a.mp4", out=Path("/proc/nowhere")) == 1
    run.scratch = tmp_path / "scratch"
    assert run(str(notes), out=clip) == 1
    assert run(str(clip), "start_s=9", out=tmp_path / "new" / "er") == 1
    assert run(str(tmp_path / ("a" * 300))) == 1
    assert run("http://127.0.0.1:1/a?sig=secretsig") == 1

    assert run.errors.getvalue().splitlines() == [
        r"error: /mnt/c/clips/a.mp4 (C:\clips\a.mp4; that drive is not mounted here): there is no such file",
        "error: /proc/nowhere cannot be written: No such file or directory",
        f"error: WORKER_SCRATCH, {blocked}, cannot be written: Not a directory",
        f"error: {notes}: the file is not a video: it is a text file",
        f"error: {clip} is not a folder",
        f"error: {clip}: the video ends after 0.40 s, before start_s",
        f"error: {tmp_path}/{'a' * 300} cannot be read: File name too long",
        "error: the URL must start with https://",
    ]
    assert run.loaded == 0
    assert not (tmp_path / "new").exists()


def test_results_that_cannot_be_stored_are_told_with_their_place(
    run: Run, clip: Path, tmp_path: Path
) -> None:
    """What only shows at the end, such as a full disk, is a sentence too."""
    (tmp_path / "out" / "result.json").mkdir(parents=True)
    assert run(str(clip), out=tmp_path / "out") == 1
    assert run.errors.getvalue() == (
        f"error: {tmp_path}/out/result.json cannot be written: Is a directory (UPLOAD_DENIED)\n"
    )


def test_fault_of_the_program_is_told_with_its_details(run: Run, clip: Path, tmp_path: Path) -> None:
    """Never a bare `INTERNAL`: what failed and where, and a file with the traceback, without secrets."""
    run.models = FakeModels(
        perception=before_frame(3, RuntimeError("lost https://a.example/b?sig=secretsig"))
    )
    assert run(str(clip), out=tmp_path / "out") == 1

    (log,) = (tmp_path / "out").iterdir()
    told = "RuntimeError: lost https://a.example/b?[hidden]"
    assert run.errors.getvalue() == (
        f"error: an unexpected fault in the stage perceive (details: {log}): {told}\n"
    )
    assert "Traceback" in log.read_text()
    assert "secretsig" not in log.read_text()


def test_results_say_which_options_they_were_made_with(run: Run, clip: Path, tmp_path: Path) -> None:
    """The hash of the input is that of the options, wherever video and results lie."""
    copy = clip.with_name("copy.mp4")
    copy.write_bytes(clip.read_bytes())
    hashes = []
    for number, words in enumerate(([clip], [copy], [clip, "stride=2"])):
        run(*map(str, words), out=tmp_path / str(number))
        hashes.append(json.loads((tmp_path / str(number) / "result.json").read_text())["input_sha256"])
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_track_says_which_weights_are_missing(run: Run, clip: Path, tmp_path: Path) -> None:
    """Missing weights end the command with where to get them."""
    run.missing = True
    assert run(str(clip), out=tmp_path / "out") == 1
    assert run.errors.getvalue() == ("error: hmr2.safetensors is not in the store; run model_cache fetch\n")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, own_logging: None, tmp_path: Path) -> Callable[..., list[str]]:
    """The command `overlay` as typed, with fake bodies; returns the lines that it printed."""
    monkeypatch.setattr(model_cache.load, "load_body_model", lambda name, settings: FakeBody())
    monkeypatch.setenv("WORKER_SCRATCH", str(tmp_path))

    def draw(*words: object) -> list[str]:
        monkeypatch.setattr("sys.argv", ["hmr2-worker", "overlay", *map(str, words)])
        printed = io.StringIO()
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        assert ended.value.code == (1 if "error: " in printed.getvalue() else 0)
        return printed.getvalue().splitlines()

    return draw


def test_overlay_is_drawn_from_finished_results(
    run: Run, drawn: Callable[..., list[str]], clip: Path, tmp_path: Path
) -> None:
    """The command `overlay` draws what a job wrote, beside it, in a folder or as a file of another name."""
    out, elsewhere = tmp_path / "out", tmp_path / "new" / "drawn.mp4"
    run(str(clip), "stride=3", out=out)
    assert drawn(clip, out, "--style", "skeleton") == [f"wrote {out / 'overlay.mp4'}"]
    assert drawn(clip, out, "--out", elsewhere) == [f"wrote {elsewhere}"]
    assert drawn(clip, out, "--out", tmp_path) == [f"wrote {tmp_path / 'overlay.mp4'}"]
    with av.open(str(elsewhere)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4


def test_overlay_tells_all_that_is_wrong_before_it_draws(
    run: Run, drawn: Callable[..., list[str]], clip: Path, tmp_path: Path
) -> None:
    """Each path is named; a video is never replaced by its own overlay."""
    out, wanted = tmp_path / "out", "name the folder that holds a result's result.json and frames.jsonl.gz"
    run(str(clip), out=out)
    summary, frames = out / "result.json", out / "frames.jsonl.gz"
    assert drawn(tmp_path / "a.mp4", tmp_path / "b", "--out", "/proc/nowhere/c.mp4") == [
        f"error: {tmp_path / 'a.mp4'}: there is no such file",
        f"error: {tmp_path / 'b' / 'result.json'} cannot be read: No such file or directory; {wanted}",
        "error: /proc/nowhere cannot be written: No such file or directory",
    ]
    other = make_video(tmp_path / "other.mp4", num_frames=3)
    assert drawn(other, out) == [f"error: {out}: these results were made from another video than {other}"]
    assert drawn(clip, out, "--out", clip) == [
        f"error: {clip} is the video itself; name another file for the overlay"
    ]
    frames.write_bytes(frames.read_bytes()[:50])
    assert drawn(clip, out) == [f"error: {frames} is not the file that result.json names; copy it here again"]
    frames.unlink()
    assert drawn(clip, out) == [f"error: {frames} cannot be read: No such file or directory; {wanted}"]
    summary.write_text("{")
    assert drawn(clip, out) == [f"error: {summary} is no summary of results, or not whole"]
