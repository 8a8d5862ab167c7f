"""Where a file may be had, in the order in which to ask. Knows nothing of networks.

Own source, mirror, the folders where the official packages keep it, the official hosts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from model_cache.store.manifest import HMR2_DATA, OfficialFile
from ops.weights.settings import WeightSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place to ask.

    Attributes:
        address: URL, `s3://bucket/key` or a path; may hold a secret.
        label: how messages call it, without secrets.
        of_operator: whether the operator named it. Only such a place may give SMPL.
    """

    address: str = field(repr=False)
    label: str
    of_operator: bool

    @property
    def path(self) -> Path | None:
        """The local file, if it is one."""
        if self.address.startswith("file://"):
            return Path(self.address.removeprefix("file://"))
        return None if "://" in self.address else Path(self.address).expanduser()


def locations(file: OfficialFile, settings: WeightSettings, folders: Sequence[Path]) -> list[Location]:
    """Where `file` may be had, the best place first.

    Args:
        file: what is wanted.
        settings: the operator's sources.
        folders: caches laid out as the official packages have them.
    """
    found = []
    names = (file.role, HMR2_DATA) if file.archive else (file.role,)
    for name in names:
        if source := settings.source(name):
            found += _own_source(file, source, f"WEIGHTS_{name.upper()}")
    if settings.mirror:
        found += _in_mirror(file, settings.mirror.get_secret_value())
    found += [
        Location(address=str(path), label=str(path), of_operator=True)
        for path in (folder / file.path for folder in folders)
        if path.is_file()
    ]
    if settings.official_hosts:
        found += [Location(address=a, label=a, of_operator=False) for a in file.addresses]
    return found


def _own_source(file: OfficialFile, source: str, setting: str) -> list[Location]:
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
    host = urlsplit(address).hostname if "://" in address else None
    return Location(address=address, label=f"{setting} ({host or 'a local file'})", of_operator=True)


def _in_mirror(file: OfficialFile, mirror: str) -> list[Location]:
    if "://" in mirror and not mirror.startswith("file://"):
        base, _, query = mirror.partition("?")
        tail = f"?{query}" if query else ""
        encode = quote if not base.startswith("s3://") else str
        return [
            _of_operator(f"{base.rstrip('/')}/{encode(name)}{tail}", f"WEIGHTS_MIRROR, {name}")
            for name in _mirror_names(file)
        ]
    return _own_source(file, mirror, "WEIGHTS_MIRROR")


def _mirror_names(file: OfficialFile) -> tuple[str, ...]:
    """Names to ask a mirror for that cannot be listed; the detector's files lie in a folder of its name."""
    if file.role.startswith("detector_"):
        return (file.path,)
    names = (file.name, *file.aliases, *((file.archive,) if file.archive else ()))
    return tuple(dict.fromkeys(names))


def _in_folder(file: OfficialFile, folder: Path) -> list[Path]:
    """The file in a folder or below it: by its place, by its names, else in an archive of known name."""
    if (folder / file.path).is_file():
        return [folder / file.path]
    if file.role.startswith("detector_"):
        return []
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    ranked = sorted(
        ((rank, path) for path in files if (rank := file.rank(path.name)) is not None),
        key=lambda pair: pair[0],
    )
    archives = [path for path in files if file.archive and path.name == file.archive]
    return [path for _, path in ranked] + archives
