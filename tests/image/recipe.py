"""Reads the repository's Dockerfile and locks."""

import io
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "locks"
BUILDS = ("cu128", "cpu")  # of torch
_MOUNTS = re.compile(r"^(?:--mount=\S+\s+)+")


Instruction = tuple[str, str]  # of a Dockerfile: its word, and the rest with its lines joined


class Pin(NamedTuple):
    """One line of a lock."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The one version that is allowed, local part included."""
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def stages() -> dict[str, list[Instruction]]:
    """The instructions of each stage by its name; those before the first stage under ""."""
    parser = DockerfileParser(fileobj=io.BytesIO((ROOT / "Dockerfile").read_bytes()))
    found: dict[str, list[Instruction]] = {"": []}
    name = ""
    for step in parser.structure:
        if step["instruction"] == "FROM":
            name = step["value"].split()[-1]
            found[name] = []
        if step["instruction"] != "COMMENT":
            found[name].append((step["instruction"], step["value"]))
    return found


def values(stage: str, word: str) -> list[str]:
    """What follows each instruction of one kind in a stage."""
    return [value for found, value in stages()[stage] if found == word]


def environment(stage: str) -> dict[str, str]:
    """Every ENV of a stage."""
    return dict(pair.split("=", 1) for value in values(stage, "ENV") for pair in value.split())


def pins(name: str) -> dict[str, Pin]:
    """A lock by normalised package name.

    Raises:
        ValueError: a line is no pin with hashes (an option, a URL), or a package is pinned twice.
    """
    found: dict[str, Pin] = {}
    text = re.sub(r"\s*\\\n\s*", " ", (LOCKS / name).read_text())
    for line in filter(None, text.splitlines()):
        if line.startswith("#"):
            continue
        requirement, *options = line.split(" --hash=sha256:")
        pin = Pin(requirement=Requirement(requirement), hashes=tuple(options))
        package = canonicalize_name(pin.requirement.name)
        if package in found or not re.fullmatch(r"\S+==\S+", requirement):
            raise ValueError(f"{name}: {line[:80]}")
        found[package] = pin
    return found


def installed_pins(build: str) -> dict[str, Pin]:
    """Everything that the image installs with one build of torch, the project itself aside."""
    found: dict[str, Pin] = {}
    for name in (f"torch-{build}.txt", f"cuda-{build}.txt", "image.txt"):
        for package, pin in pins(name).items():
            if package in found:
                raise ValueError(f"{package} is in two locks")
            found[package] = pin
    return found


def shell_script(stage: str) -> str:
    """A stage as a script for `sh -e`: the same commands, in the same order, in the same environment.

    The build context is $CONTEXT. An ARG that is set already keeps its value. Mounts are left out: they are
    caches and secrets of the builder.
    """
    lines = []
    for word, value in stages()[stage]:
        match word:
            case "FROM":
                continue
            case "WORKDIR":
                lines.append(f'mkdir -p "{value}"; cd "{value}"')
            case "ENV":
                lines.append(f"export {value}")
            case "ARG":
                name, _, default = value.partition("=")
                lines.append(f'export {name}="${{{name}:-{default}}}"')
            case "COPY":
                *sources, target = value.split()
                # In cp's terms a folder's content is `folder/.`.
                paths = " ".join(f'"$CONTEXT/{source}"' for source in sources).replace('/"', '/."')
                lines.append(f'mkdir -p "{target}"; cp -r {paths} "{target}"')
            case "RUN":
                lines.append(f"( {_MOUNTS.sub('', value)} )")
            case _:
                raise ValueError(f"{word} has no place in a stage that is run as a script")
    return "\n".join(lines) + "\n"


def copy_context(target: Path) -> Path:
    """A copy of what .dockerignore lets into the image's build."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    ignored = shutil.ignore_patterns(*(line.removeprefix("**/") for line in lines if line.startswith("**/")))
    target.mkdir(parents=True)
    for name in (line.removeprefix("!") for line in lines if line.startswith("!")):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, target / name)
    return target
