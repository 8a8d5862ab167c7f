"""The words typed after `track`: a video and options, under our names or those of 4D-Humans.

`track clip.mp4 --out out`, `track video.source=clip.mp4 video.output_dir=out phalp.n_init=3`,
`track clip.mp4 options.stride=2` and `track clip.mp4 --stride 2` all work. Everything that is wrong with a
command is told at once, by the names that were typed.
"""

import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from handler.job import Options, Strict
from handler.problems import fields_of, not_known, problems

DEFAULT_OUT = "out"
# Options of 4D-Humans that mean the same here under another name; those of `phalp.` are our own.
RENAMED = {
    "video.source": "source",
    "video.output_dir": "out",
    "video.start_time": "start_s",
    "video.end_time": "end_s",
    "render.fps": "fps",
}
_NO_CHOICE = "leave it out; the overlay has no such choice"
_SIZE = "leave it out; the overlay has the size of the video"
_START = "give a time, frame / frames per second: frame 45 at 30 frames/s is start_s=1.5"
_END = f"{_START.replace('start_s', 'end_s')}; without it all frames are read"
_WEIGHTS = "leave it out; weight files are found in the store (docs/09-weights.md)"
_BOXES = "boxes are not read from files; a detector of your own gives them (docs/16-another-detector.md)"
_NAMES = "leave it out; files have fixed names, so give each video a folder by --out"
_ONE = "leave it out; a command tracks one video"
_QUIET = "leave it out; there is no more to print"
# Options of 4D-Humans without a counterpart, or whole sections of them, with what to do instead.
UNSUPPORTED = {
    "video.start_frame": _START,
    "video.end_frame": _END,
    "video.extract_video": "leave it out; frames are never written to disk",
    "video.base_path": _BOXES,
    "video.useffmpeg": "leave it out; overlay.mp4 is H.264 already",
    "phalp.start_frame": _START,
    "phalp.end_frame": _END,
    "phalp.detector": "set DETECTOR in the environment (docs/16-another-detector.md)",
    "phalp.pose_distance": "leave it out; it is always smpl",
    "phalp.distance_type": "leave it out; it is always EQ_019",
    "phalp.encode_type": "leave it out; it is always 4c",
    "phalp.past_lookback": "leave it out; it is always 1",
    "phalp.shot": "leave it out; detect_shots=true finds cuts",
    "render.enable": "for an overlay, add artifacts=overlay.mp4",
    "render.type": "for an overlay, add artifacts=overlay.mp4, and overlay_style=skeleton if you like",
    "render.show_keypoints": "add artifacts=overlay.mp4 overlay_style=skeleton",
    "render.res": _SIZE,
    "render.up_scale": _SIZE,
    "render.output_resolution": _SIZE,
    "render": _NO_CHOICE,
    "post_process": "leave it out; nothing is smoothed, and track.py does not do so either",
    "pose_predictor": _WEIGHTS,
    "hmr": _WEIGHTS,
    "SMPL": _WEIGHTS,
    "MODEL": _WEIGHTS,
    "hmr_type": _WEIGHTS,
    "ava_config": "leave it out; actions are not recognised, and track.py does not do so either",
    "EXTRA": "leave it out; if you know the lens, give camera.fx in pixels of the frame",
    "expand_bbox_shape": "leave it out; it is always 192 x 256, the shape of HMR2's crops",
    "device": "set MODEL_DEVICE in the environment, such as MODEL_DEVICE=cuda:0",
    "seed": "leave it out; nothing here is random",
    "train": "leave it out; nothing is trained",
    "use_gt": _BOXES,
    "overwrite": "leave it out; results of an earlier run are replaced",
    "track_dataset": _NAMES,
    "base_tracker": _NAMES,
    "video_seq": _NAMES,
    "task_id": _ONE,
    "num_tasks": _ONE,
    "debug": _QUIET,
    "verbose": _QUIET,
    "hydra": "leave it out; --out is the folder for the results",
    "output": "results go to a folder; --out says which",  # of a job's request
}
# Sources that cannot be read, and no source.
_NOT_VIDEOS = {
    "": f"no video is named; an example: track clip.mp4 --out {DEFAULT_OUT}",
    r"(https?://)?([\w-]+\.)*(youtube\.com|youtu\.be)(/.*)?": "YouTube's links lead to pages, not to videos; "
    'fetch it first, yt-dlp -f "bv[ext=mp4]" -o clip.mp4 LINK, and track clip.mp4',
    r".*\.pkl": f"a .pkl file is not a video; {_BOXES}",
}
_ASSIGNMENT = re.compile(r"(?P<label>[-+~]*\w[\w.-]*)=(?P<value>.*)", re.DOTALL)
_WINDOWS = re.compile(r"(?P<drive>[A-Za-z]):[\\/](?P<rest>.*)", re.DOTALL)
_WSL_SHARE = re.compile(r"[\\/]{2}wsl(?:\$|\.localhost)[\\/][^\\/]+(?P<rest>[\\/].*)", re.I | re.DOTALL)

FieldPath = tuple[str, ...]


class WrongWords(ValueError):
    """A command that cannot be done as typed.

    Attributes:
        problems: a sentence for each thing that is wrong.
    """

    def __init__(self, sentences: Sequence[str]) -> None:
        super().__init__("; ".join(sentences))
        self.problems = tuple(sentences)


class Overrides(Strict):
    """What was typed."""

    source: str = Field(default="", max_length=8192, description="Path or URL of the video.")
    out: str = Field(default=DEFAULT_OUT, description="Folder for the results.")
    fps: float | None = Field(default=None, ge=0.01, le=1000, description="Rate of a folder of pictures.")
    options: Options = Field(default_factory=Options)


def parse_overrides(words: Sequence[str], out: Path | None = None) -> Overrides:
    """Read the words of a command; `out` is what was given as --out.

    Raises:
        WrongWords: unknown names, impossible values, no video or several.
    """
    command = _Command()
    for label, text in [*([("--out", str(out))] if out else []), *_pairs(words)]:
        command.add(label, text)
    return command.overrides()


class _Command:
    """The words read so far, and what is wrong with them."""

    def __init__(self) -> None:
        self.names = option_names()
        self.fields = dict(fields_of(Overrides))
        self.typed: dict[FieldPath, str] = {}
        self.tree: dict[str, Any] = {}
        self.sources: list[str] = []
        self.wrong: list[str] = []

    def add(self, label: str, text: str) -> None:
        """One word: its name as typed, empty for a video, and its value."""
        path = self.names.get(_plain(label).removeprefix("options."))
        if not label or path == ("source",):
            self.sources.append(text.strip("'\""))  # Hydra wants URLs in quotes of their own
        elif path is None:
            self.wrong.append(f"{label} {_why_not(_plain(label), self.names)}")
        elif (before := self.typed.setdefault(path, label)) != label:
            self.wrong.append(f"{before} and {label} mean the same; give one of them")
        else:
            self.set(path, _value(text, self.fields[path]))

    def set(self, path: FieldPath, value: object) -> None:
        """Set an option, or parts of one that has parts; like Hydra, the last value counts."""
        parts = [other for other in self.fields if other[:-1] == path]
        if parts and not isinstance(value, dict):
            (part, example), *_ = self.fields[path].examples[0].items()  # type: ignore[index]  # they have one
            is_number = isinstance(value, int | float) and not isinstance(example, list)
            usual = self.write((*path, part), value if is_number else example)
            self.wrong.append(f"{self.name(path)} is set by its parts, such as {usual}")
            return
        tree = self.tree
        for step in path[:-1]:
            tree = tree.setdefault(step, {})
        tree[path[-1]] = {**tree.get(path[-1], {}), **value} if isinstance(value, dict) and parts else value

    def overrides(self) -> Overrides:
        """What was typed, if all of it is right."""
        if len(self.sources) > 1:
            several = " and ".join(self.sources)
            self.wrong.append(f"a command tracks one video (options are typed as in stride=2), not {several}")
        source = self.sources[0] if self.sources else ""
        self.wrong += [why for kind, why in _NOT_VIDEOS.items() if re.fullmatch(kind, source, re.IGNORECASE)]
        try:
            overrides = Overrides.model_validate({**self.tree, "source": source})
        except ValidationError as error:
            self.wrong += problems(error, Overrides, self.tree, name=self.name, write=self.write)
        if self.wrong:
            raise WrongWords(self.wrong)
        return overrides

    def name(self, path: FieldPath) -> str:
        """An option as it was typed, or by its usual name."""
        return self.typed.get(path) or shown(path)

    def write(self, path: FieldPath, value: object) -> str:
        """How to type an option."""
        if isinstance(value, dict):
            return " ".join(self.write((*path, part), inner) for part, inner in value.items())
        return f"{self.name(path)}={','.join(map(str, value)) if isinstance(value, list) else value}"


def option_names() -> dict[str, FieldPath]:
    """Every name that can be typed, but for an `options.` in front, with its path in `Overrides`."""
    names: dict[str, FieldPath] = {}
    for path in map(tuple, dict(fields_of(Overrides))):
        match path:
            case ("options",) | ("options", "tracking"):
                continue
            case ("options", "tracking", option):
                short = option.removeprefix("phalp.")
                spellings = [short, f"phalp.{short}", f"tracking.{short}", f"tracking.{option}"]
            case ("options", *rest):
                spellings = [".".join(rest)]
            case _:
                spellings = [*path]
        names |= dict.fromkeys(spellings, path)
    return names | {"video_url": ("source",)} | {old: names[new] for old, new in RENAMED.items()}


def shown(path: FieldPath) -> str:
    """The name by which an option is best known."""
    match path:
        case ("options", "tracking", *_, option):
            return option
        case ("options", *rest):
            return ".".join(rest)
        case _:
            return next((old for old, new in RENAMED.items() if (new,) == path), "")


def local_path(text: str) -> Path:
    r"""A path as typed, also one copied from Windows: C:\clips\a.mp4 is /mnt/c/clips/a.mp4 under WSL."""
    if match := _WINDOWS.fullmatch(text):
        return Path("/mnt", match["drive"].lower(), *re.split(r"[\\/]+", match["rest"]))
    if match := _WSL_SHARE.fullmatch(text):
        return Path(match["rest"].replace("\\", "/"))
    return Path(text).expanduser()


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(Name as typed, value) of `name=value`, `--name value` and `--name`; ("", word) of any other word."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if match := _ASSIGNMENT.fullmatch(word):  # a path or URL may hold a = too
            yield match["label"], match["value"]
        elif re.fullmatch(r"--?[A-Za-z][\w.-]*", word):
            is_flag = not rest or rest[0].startswith("--") or _ASSIGNMENT.fullmatch(rest[0])
            yield word, "true" if is_flag else rest.pop(0)
        else:
            yield "", word


def _plain(label: str) -> str:
    return label.lstrip("-+~").replace("-", "_")


def _why_not(word: str, names: Mapping[str, FieldPath]) -> str:
    """What to say of a name that is none here: 4D-Humans' has a reason, others have neighbours."""
    section, _, last = word.rpartition(".")
    reasons = {known.rpartition(".")[2]: why for known, why in UNSUPPORTED.items()} if not section else {}
    reasons |= UNSUPPORTED
    for known in (word, section, word.partition(".")[0]):
        if known in reasons:
            return f"does not exist here: {reasons[known]}"
    best = {known.rpartition(".")[2]: shown(path) for known, path in names.items()}
    best |= {old.rpartition(".")[2]: old for old in RENAMED} | {"out": "--out", "models": "--models"}
    beside = {end: name for end, name in best.items() if section and name.startswith(f"{section}.")}
    near = difflib.get_close_matches(last, beside or best, n=1, cutoff=0.6) or [last]
    others = beside.values() or sorted({*best.values()} - {"camera", "person"})
    return not_known([best[end] for end in near if end in best], others)


def _value(text: str, field: FieldInfo) -> object:
    """The value as YAML, which Hydra reads too; a list needs no brackets, a time may end in s."""
    if field.annotation is str:
        return text
    if re.fullmatch(r"[\d.]+s", text):  # 4D-Humans writes video.end_time=10s
        text = text[:-1]
    kinds = (field.annotation, *typing.get_args(field.annotation))
    is_list = any(typing.get_origin(kind) is tuple for kind in kinds) and not text.startswith(("[", "{"))
    try:
        value: object = yaml.safe_load(f"[{text}]" if is_list else text)
    except (yaml.YAMLError, ValueError):
        return text
    return text if isinstance(value, bool) and bool not in kinds else value  # true is not 1
