"""The command `track`: words as people type them, one video, results in a folder."""

import gzip
import io
import json
from pathlib import Path

import av
import cv2
import pytest
from rich.console import Console
from typer.testing import CliRunner

from handler.errors import InputError
from model_cache.errors import WeightsMissing
from model_cache.interfaces import Models
from ops.command_line import app
from ops.overlay_command import draw
from ops.track_command import track
from tests.fakes import FakeBody, FakeModels, draw_people
from tests.handler.rig import local_settings
from tests.video_factory import make_video


class Run:
    """`track` over fake models, with what it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded = 0
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.missing = False

    def __call__(self, *words: str, out: Path | None = None) -> int:
        """The exit code."""
        return track(
            words,
            out,
            self.load,
            local_settings(self.folder / "scratch"),
            console=Console(file=self.output, width=200),
            errors=Console(file=self.errors, width=200, soft_wrap=True),
        )

    def load(self) -> Models:
        """Fake models, or none."""
        self.loaded += 1
        if self.missing:
            raise WeightsMissing("hmr2.safetensors is not in the store; run model_cache fetch")
        return FakeModels()


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
    assert run.errors.getvalue() == f"error: VIDEO_UNREADABLE: {tmp_path}/a.jpg is no JPEG picture\n"


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
        (["nowhere.mp4"], 1, "error: DOWNLOAD_NOT_FOUND: there is no such file"),
        (["docs"], 1, "error: VIDEO_UNREADABLE: the folder docs holds no .jpg files; make a video of other "),
        (["http://u:secretpass@127.0.0.1:1/a?sig=secretsig"], 1, "error: URL_NOT_ALLOWED"),
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
    ids=["missing", "no pictures", "url", "fps", "words"],
)
def test_track_explains_what_is_wrong(run: Run, words: list[str], code: int, message: str) -> None:
    """Each mistake is one line on stderr, without a traceback and without a secret."""
    assert run(*words) == code

    assert run.errors.getvalue().startswith(message)
    assert "secret" not in run.errors.getvalue() + run.output.getvalue()


def test_track_checks_the_file_before_it_loads_models(run: Run) -> None:
    """A misspelt path costs no minute of loading."""
    run("nowhere.mp4")
    assert run.loaded == 0


def test_track_says_which_weights_are_missing(run: Run, clip: Path, tmp_path: Path) -> None:
    """Missing weights end the command with where to get them."""
    run.missing = True
    assert run(str(clip), out=tmp_path / "out") == 1
    assert run.errors.getvalue() == ("error: hmr2.safetensors is not in the store; run model_cache fetch\n")


def test_overlay_is_drawn_from_finished_results(run: Run, clip: Path, tmp_path: Path) -> None:
    """The command `overlay` draws what a job wrote, and refuses the results of another video."""
    out = tmp_path / "out"
    run(str(clip), "stride=3", out=out)
    settings = local_settings(tmp_path / "scratch")
    path = draw(clip, out, None, "skeleton", FakeBody, settings)

    assert path == out / "overlay.mp4"
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    other = make_video(tmp_path / "other.mp4", num_frames=3)
    with pytest.raises(InputError, match="another video"):
        draw(other, out, None, None, FakeBody, settings)
    with pytest.raises(InputError, match=r"no readable result\.json"):
        draw(clip, tmp_path, None, None, FakeBody, settings)
