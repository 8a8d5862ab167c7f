"""The command `track`: words as people type them, one video, results in a folder."""

import io
import json
from pathlib import Path

import av
import pytest
from rich.console import Console

from handler.errors import InputError
from model_cache.errors import WeightsMissing
from model_cache.interfaces import Models
from ops.overlay_command import draw
from ops.overrides import UnknownOption, local_path, option_paths, parse_overrides
from ops.track_command import track
from tests.fakes import FakeBody, FakeModels, draw_people
from tests.handler.rig import local_settings
from tests.video_factory import make_video


def test_words_of_4d_humans_are_understood() -> None:
    """What a 4D-Humans user types means the same here."""
    words = ["video.source=clip.mp4", "video.output_dir=results", "phalp.n_init=3", "video.end_time=10s"]
    overrides = parse_overrides(words)

    assert (overrides.source, overrides.out) == ("clip.mp4", "results")
    assert (overrides.options.tracking.n_init, overrides.options.end_s) == (3, 10.0)


def test_own_words_are_understood() -> None:
    """Options go by their own names, with or without `options.`, lists and nested ones too."""
    words = [
        "a=b.mp4",
        "options.stride=2",
        "artifacts=[overlay.mp4]",
        "camera.fx=1200",
        "person.point=[3, 4]",
    ]
    with pytest.raises(UnknownOption, match="a does not exist"):
        parse_overrides(words)
    options = parse_overrides(["clips/a=b.mp4", *words[1:]]).options

    assert (options.stride, options.artifacts) == (2, ("overlay.mp4",))
    assert options.camera is not None
    assert options.person is not None
    assert (options.camera.fx, options.person.point) == (1200.0, (3.0, 4.0))


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("phalp.ninit=3", "did you mean phalp.n_init"),
        ("vidoe.source=a.mp4", "did you mean video.source"),
        ("render.enable=True", r"add artifacts=\[overlay.mp4\]"),
        ("video.end_frame=100", "give a time: end_s=12"),
        ("zzz=1", "there are artifacts, camera, "),
        ("phalp.n_init=0", "greater than or equal to 1"),
        ("stride=two", "stride: Input should be a valid integer"),
        ("camera={", "cannot be parsed as YAML"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_help(word: str, hint: str) -> None:
    """An unknown name or an impossible value never passes silently."""
    with pytest.raises(UnknownOption, match=hint):
        parse_overrides(["clip.mp4", word])


def test_every_known_word_sets_something() -> None:
    """Each name that the help offers leads to a field that exists."""
    from handler.job import Options

    schema = Options.model_json_schema(by_alias=True)
    for name, path in option_paths().items():
        node = schema
        for step in path:
            reference = next(
                (part["$ref"] for part in [node, *node.get("anyOf", [])] if "$ref" in part), None
            )
            node = schema["$defs"][reference.rpartition("/")[2]] if reference else node
            assert step in node["properties"], name
            node = node["properties"][step]


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        (r"C:\Users\me\my clips\a.mp4", "/mnt/c/Users/me/my clips/a.mp4"),
        ("d:/a.mp4", "/mnt/d/a.mp4"),
        (r"\\wsl$\Ubuntu\home\me\a.mp4", "/home/me/a.mp4"),
        (r"\\wsl.localhost\Ubuntu-22.04\home\me\a.mp4", "/home/me/a.mp4"),
        ("/mnt/c/a.mp4", "/mnt/c/a.mp4"),
        ("clips/a.mp4", "clips/a.mp4"),
    ],
)
def test_windows_paths_are_understood(typed: str, path: str) -> None:
    """A path copied from Windows' Explorer is the same file under WSL."""
    assert local_path(typed) == Path(path)


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
        (["."], 1, "error: DOWNLOAD_DENIED: this is not a file"),
        (["http://u:secretpass@127.0.0.1:1/a?sig=secretsig"], 1, "error: URL_NOT_ALLOWED"),
        ([], 2, "error: name a video"),
        (["a.mp4", "b.mp4"], 2, "error: two sources: a.mp4 and b.mp4"),
        (["a.mp4", "phalp.ninit=1"], 2, "error: phalp.ninit does not exist here; did you mean phalp.n_init"),
    ],
    ids=["missing", "folder", "url", "none", "two", "unknown"],
)
def test_track_explains_what_is_wrong(run: Run, words: list[str], code: int, message: str) -> None:
    """Mistakes are one line on stderr, without a traceback and without a secret."""
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
