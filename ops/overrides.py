"""The options typed after `track`, under our names or those of 4D-Humans.

`track clip.mp4 --out out`, `track video.source=clip.mp4 video.output_dir=out phalp.n_init=3` and
`track clip.mp4 options.stride=2` all work; an unknown name is refused, with the nearest known ones.
"""

import difflib
import inspect
import re
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from handler.job import Options

# Options of 4D-Humans that mean the same thing here under another name.
SOURCE, OUT = "video.source", "video.output_dir"
RENAMED = {
    "video.start_time": "start_s",
    "video.end_time": "end_s",
    "phalp.upstream_quirks": "tracking.upstream_quirks",
}
# Options of 4D-Humans that many scripts set and that have no counterpart, with what to do instead.
UNSUPPORTED = {
    "video.start_frame": "give a time: start_s=1.5",
    "video.end_frame": "give a time: end_s=12; without it the whole video is processed",
    "phalp.start_frame": "give a time: start_s=1.5",
    "phalp.end_frame": "give a time: end_s=12; without it the whole video is processed",
    "video.extract_video": "leave it out; frames are never written to disk",
    "render.enable": "for the overlay, add artifacts=[overlay.mp4]",
    "render.type": "leave it out; for the overlay, add artifacts=[overlay.mp4]",
    "phalp.detector": "leave it out; the detector is chosen by the worker's settings",
    "overwrite": "leave it out; results of an earlier run are replaced",
}
_WINDOWS = re.compile(r"(?P<drive>[A-Za-z]):[\\/](?P<rest>.*)", re.DOTALL)
_WSL_SHARE = re.compile(r"[\\/]{2}wsl(?:\$|\.localhost)[\\/][^\\/]+(?P<rest>[\\/].*)", re.I | re.DOTALL)


class UnknownOption(ValueError):
    """An unknown name or an impossible value; the message says what is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What was typed.

    Attributes:
        source: the video, if one was named.
        out: the folder for the results, if one was named.
        options: the job's options.
    """

    source: str | None = None
    out: str | None = None
    options: Options = field(default_factory=Options)


def parse_overrides(words: Sequence[str]) -> Overrides:
    """Read `name=value` words; one word without `=` is the source.

    Raises:
        UnknownOption: an unknown name or an impossible value.
    """
    source: str | None = None
    out: str | None = None
    tree: dict[str, Any] = {}
    known = option_paths()
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not re.fullmatch(r"[\w.]+", name):  # a path or URL may hold a = too
            if source is not None:
                raise UnknownOption(f"two sources: {source} and {word}")
            source = word
        elif name in (SOURCE, "source"):
            source = value
        elif name in (OUT, "out"):
            out = value
        else:
            _set(tree, _path(name, known), _value(name, value))
    try:
        options = Options.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UnknownOption(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return Overrides(source=source, out=out, options=options)


def option_paths() -> dict[str, tuple[str, ...]]:
    """Every name that can be typed, with its path in the options."""
    paths = dict(_paths_of(Options, ()))
    return paths | {old: paths[new] for old, new in RENAMED.items()}


def local_path(text: str) -> Path:
    r"""A path as typed, also one copied from Windows: C:\clips\a.mp4 is /mnt/c/clips/a.mp4 under WSL."""
    if match := _WINDOWS.fullmatch(text):
        return Path("/mnt", match["drive"].lower(), *re.split(r"[\\/]+", match["rest"]))
    if match := _WSL_SHARE.fullmatch(text):
        return Path(match["rest"].replace("\\", "/"))
    return Path(text).expanduser()


def _paths_of(model: type[BaseModel], prefix: tuple[str, ...]) -> Iterable[tuple[str, tuple[str, ...]]]:
    for name, info in model.model_fields.items():
        path = (*prefix, info.alias or name)
        yield ".".join((*prefix, name)), path
        if info.alias:
            yield info.alias, path
        for inner in (info.annotation, *typing.get_args(info.annotation)):
            if inspect.isclass(inner) and issubclass(inner, BaseModel):
                yield from _paths_of(inner, path)


def _path(name: str, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    name = name.removeprefix("options.")
    if name in known:
        return known[name]
    if name in UNSUPPORTED:
        raise UnknownOption(f"{name} does not exist here: {UNSUPPORTED[name]}")
    names = sorted(known_name for known_name in known if not known_name.startswith("tracking"))
    near = difflib.get_close_matches(name, [SOURCE, OUT, *known], n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(names)}"
    raise UnknownOption(f"{name} does not exist here{hint}")


def _value(name: str, text: str) -> object:
    if name in ("video.start_time", "video.end_time"):  # 4D-Humans writes 10s
        text = text.removesuffix("s")
    try:
        value: object = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UnknownOption(f"{name}: {text} cannot be parsed as YAML") from None
    return value


def _set(tree: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for step in path[:-1]:
        tree = tree.setdefault(step, {})
    tree[path[-1]] = value
