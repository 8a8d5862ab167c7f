"""The locks: complete, hashed, within the project's ranges, and silent about where packages come from."""

import importlib.metadata
import re
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.image.recipe import BUILDS, LOCKS, ROOT, installed_pins, pins

IMAGE = default_environment() | {
    "python_version": "3.11",
    "python_full_version": "3.11.16",
    "implementation_version": "3.11.16",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "os_name": "posix",
}


def needed(requirements: list[str], extras: set[str]) -> list[Requirement]:
    """Those that apply in the image."""
    places = [IMAGE | {"extra": extra} for extra in extras | {""}]
    parsed = [Requirement(text) for text in requirements]
    return [one for one in parsed if one.marker is None or any(map(one.marker.evaluate, places))]


def project_requirements() -> list[Requirement]:
    """What the project itself asks for."""
    return needed(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"], set())


@pytest.mark.parametrize("build", BUILDS)
def test_lock_covers_the_project_and_what_its_packages_require(build: str) -> None:
    """Nothing is left for an installer to choose: followed through the metadata of all that is at hand."""
    locked = installed_pins(build)
    queue = [(requirement, "the project") for requirement in project_requirements()]
    seen: set[tuple[str, frozenset[str]]] = set()
    read: set[str] = set()
    wrong = []
    while queue:
        requirement, wanted_by = queue.pop()
        name = canonicalize_name(requirement.name)
        pin = locked.get(name)
        if pin is None or not requirement.specifier.contains(pin.version, prereleases=True):
            wrong.append(f"{requirement} of {wanted_by}")
            continue
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            metadata = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if metadata.version != pin.version:  # another version may require other packages
            continue
        read.add(name)
        queue += [(child, name) for child in needed(metadata.requires or [], requirement.extras)]

    assert wrong == []
    assert len(read) > len(locked) / 2  # the walk saw the tree, not its first branches


def test_cuda_lock_holds_what_torch_asks_of_it() -> None:
    """The libraries that the CUDA build links are pinned within the ranges of that build."""
    locked = installed_pins("cu128")
    lines = (LOCKS / "cuda-cu128.in").read_text().splitlines()
    asked = [Requirement(line) for line in lines if line and not line.startswith("#")]

    for requirement in asked:
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)].version)
    for extra in next(requirement.extras for requirement in asked if requirement.name == "cuda-toolkit"):
        assert [name for name in locked if extra in name.replace("runtime", "cudart")], extra
    assert Requirement("setuptools<82").specifier.contains(locked["setuptools"].version)


@pytest.mark.parametrize("build", BUILDS)
def test_torch_is_pinned_with_its_build(build: str) -> None:
    """The local version names the build, so that no other can slip in; no CUDA 13 package is near it."""
    locked = installed_pins(build)

    assert locked["torch"].version.endswith(f"+{build}")
    assert [name for name in locked if name.endswith("-cu13")] == []
    if build == "cpu":
        assert [name for name in locked if name.startswith(("nvidia-", "cuda-", "triton"))] == []


@pytest.mark.parametrize("path", sorted(LOCKS.glob("*.txt")), ids=lambda path: path.name)
def test_every_pin_has_hashes_and_no_source(path) -> None:
    """A lock says what, never from where; each file of a package is known by its SHA-256."""
    text = path.read_text()

    assert not re.search(r"://|^\s*-[^-]|index-url|find-links", text, re.MULTILINE)
    if path.name == "constraints.txt":
        return
    for name, pin in pins(path.name).items():
        assert pin.hashes, name
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pin.hashes), name
