"""Where an official file may be had, in the order in which to ask, and what to do if none of them has it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from model_cache.store.manifest import FETCH, OfficialFile
from ops.overrides import local_path
from ops.weights.settings import WeightSettings

HMR2_DATA = "hmr2_data"  # the setting of the archive that holds all of HMR2's files but SMPL


class SourceFailed(Exception):
    """This source does not give the file; another may. The message may be shown: it holds no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place to ask."""

    address: str = field(repr=False)  # URL, `s3://bucket/key` or a path; may hold a secret
    label: str  # how messages call it, without secrets
    of_operator: bool  # whether the operator named it; only such a place may give SMPL

    @property
    def path(self) -> Path | None:
        """The local file, if it is one."""
        if self.address.startswith("file://"):
            return Path(self.address.removeprefix("file://"))
        return None if "://" in self.address else local_path(self.address)


def locations(file: OfficialFile, settings: WeightSettings, caches: Sequence[Path]) -> list[Location]:
    """Where `file` may be had: its own setting, the mirror, the official packages' caches, their hosts."""
    found = []
    for name in (file.role, HMR2_DATA) if file.archive else (file.role,):
        if source := settings.source(name):
            found += _from_setting(file, source, setting_of(name))
    if settings.mirror:
        found += _from_mirror(file, settings.mirror.get_secret_value())
    found += [
        Location(address=str(path), label=str(path), of_operator=True)
        for path in (cache / file.path for cache in caches)
        if path.is_file()
    ]
    if settings.official_hosts:
        found += [Location(address=a, label=a, of_operator=False) for a in file.addresses]
    return found


def first_source(file: OfficialFile, settings: WeightSettings) -> str:
    """The first of them as it may be shown: an operator's own by its setting, since it may be a secret."""
    if settings.source(file.role):
        return setting_of(file.role)
    if file.archive and settings.hmr2_data:
        return setting_of(HMR2_DATA)
    if settings.mirror:
        return "WEIGHTS_MIRROR"
    return file.addresses[0] if file.addresses else f"you: {file.origin}"


def how_to_get(file: OfficialFile) -> str:
    """What an operator can do about a file that could not be fetched, in a sentence."""
    setting = setting_of(file.role)
    if not file.operator_only:
        return f"It comes from {file.origin}. From elsewhere: `{setting}=URL-or-path {FETCH}`"
    names = ", ".join((file.name, *file.aliases))
    site, licence = file.origin.partition(" ")[0], file.licence.rpartition(" ")[2]
    return (
        f"{file.name} must come from you, because its licence forbids redistribution: register at {site}, "
        f"read {licence}, download the neutral model ({names}; the site's zip will do), then run "
        f"`{setting}=/path/to/it {FETCH}`"
    )


def setting_of(name: str) -> str:
    """The variable that names a file's source."""
    return f"WEIGHTS_{name.upper()}"


def _from_setting(file: OfficialFile, source: str, setting: str) -> list[Location]:
    """A setting's source; a folder stands for the files in it that go by the right name."""
    location = _of_operator(source, setting)
    if location.path is None or not location.path.is_dir():
        return [location]
    return [
        Location(address=str(path), label=f"{setting} ({path.name})", of_operator=True)
        for path in _in_folder(file, location.path)
    ]


def _of_operator(address: str, setting: str) -> Location:
    """A source out of a setting: its path and query may be secrets, its host is not."""
    try:
        host = urlsplit(address).hostname if "://" in address else "a local file"
    except ValueError:  # of brackets that hold no address
        host = None
    return Location(address=address, label=f"{setting} ({host or 'no host'})", of_operator=True)


def _from_mirror(file: OfficialFile, mirror: str) -> list[Location]:
    """The mirror's files; where it cannot be listed, every name that the file may have there."""
    if "://" not in mirror or mirror.startswith("file://"):
        return _from_setting(file, mirror, "WEIGHTS_MIRROR")
    base, mark, query = mirror.partition("?")
    base += "" if base.endswith("/") else "/"
    encode = str if base.startswith("s3://") else quote
    archive = (file.archive,) if file.archive else ()
    # A detector's files have the same names as any other's: they lie in a folder of its name.
    names = (file.path,) if file.of_detector else (file.name, *file.aliases, *archive)
    return [
        _of_operator(f"{base}{encode(name)}{mark}{query}", f"WEIGHTS_MIRROR, {name}")
        for name in dict.fromkeys(names)
    ]


def _in_folder(file: OfficialFile, folder: Path) -> list[Path]:
    """The file in a folder or below it: by its place, by its names, else in an archive of known name."""
    if (folder / file.path).is_file():
        return [folder / file.path]
    if file.of_detector:
        return []
    paths = files_below(folder)
    return [path for _, path in by_rank(paths, file)] + [path for path in paths if path.name == file.archive]


def files_below(folder: Path) -> list[Path]:
    """Every file of a folder and its subfolders, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def by_rank(paths: Iterable[Path], file: OfficialFile) -> list[tuple[int, Path]]:
    """The paths that go by one of the file's names, with the rank of the name, the preferred one first."""
    ranked = [(rank, path) for path in paths if (rank := file.rank(path.name)) is not None]
    return sorted(ranked, key=lambda pair: pair[0])
