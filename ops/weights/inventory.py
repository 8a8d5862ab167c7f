"""What a store holds and lacks, model by model and file by file. Knows nothing of sources or networks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.store.files import read_store, sha256_of
from model_cache.store.manifest import MODEL_SOURCES, OFFICIAL_FILES, UPSTREAM_DETECTORS, OfficialFile

_CONFIGURED = frozenset({"hmr2", "pose_predictor"})  # models with a .json beside the tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Why a model cannot be used.

    Attributes:
        missing: files that are not there.
        changed: files that are not what was written.
    """

    missing: Sequence[str] = ()
    changed: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed)


def model_damage(store: Path, model: str, *, hashes: bool) -> Damage:
    """What is wrong with a converted model; falsy if nothing.

    Args:
        store: its folder.
        model: a name of `MODEL_SOURCES`.
        hashes: read the files whole and compare SHA-256, beside their sizes.

    Raises:
        WeightsInvalid: `store.json` is broken.
    """
    recorded = read_store(store)["models"].get(model, {}).get("files", {})
    expected = [f"{model}.safetensors", *([f"{model}.json"] if model in _CONFIGURED else [])]
    missing = [name for name in expected if not (store / name).is_file()]
    there = [name for name in expected if name not in missing]
    changed = [
        name
        for name in there
        if name not in recorded
        or (store / name).stat().st_size != recorded[name]["bytes"]
        or (hashes and sha256_of(store / name) != recorded[name]["sha256"])
    ]
    return Damage(missing=missing, changed=changed)


def upstream_files(detector: str) -> list[OfficialFile]:
    """What ENGINE=upstream opens below `official/`, with the detector that UPSTREAM_DETECTOR names."""
    own = UPSTREAM_DETECTORS.get(detector)
    return [*OFFICIAL_FILES, *([own] if own else [])]


def find_sources(paths: Sequence[Path], models: Iterable[str]) -> dict[str, Path]:
    """The official file of each role that `models` need, and the optional ones that are there.

    Args:
        paths: folders, searched with their subfolders, and files. A file given by itself comes before
            one found in a folder.
        models: names of `MODEL_SOURCES`.

    Raises:
        WeightsMissing: a path does not exist, or needed files were not found (all of them are named).
        WeightsInvalid: two different files claim the same role.
    """
    absent = [path.name for path in paths if not path.exists()]
    if absent:
        raise WeightsMissing(f"no such file or folder: {', '.join(absent)}")
    given = [path for path in paths if path.is_file()]
    listed = [file for path in paths if path.is_dir() for file in sorted(path.rglob("*")) if file.is_file()]
    found = {}
    for source in OFFICIAL_FILES:
        candidates = _matching(given, source) or _matching(listed, source)
        if candidates:
            found[source.role] = _single(candidates, source.role)
    needed = {role for model in models for role in MODEL_SOURCES[model]}
    missing = [source for source in OFFICIAL_FILES if source.role in needed - found.keys()]
    if missing:
        lines = [f"{source.patterns[0]} (from {source.origin})" for source in missing]
        raise WeightsMissing("official files not found: " + "; ".join(lines))
    return found


def _matching(files: Sequence[Path], source: OfficialFile) -> list[Path]:
    """Files under one of the source's names; an earlier name is preferred to a later one."""
    ranked = [(rank, file) for file in files if (rank := source.rank(file.name)) is not None]
    best = min((rank for rank, _ in ranked), default=None)
    return [file for rank, file in ranked if rank == best]


def _single(candidates: Sequence[Path], role: str) -> Path:
    """One file, when several are copies of each other (PHALP and HMR2 both ship some)."""
    if len(candidates) > 1 and len({sha256_of(path) for path in candidates}) > 1:
        names = ", ".join(str(path) for path in candidates)
        raise WeightsInvalid(f"several different files for `{role}`: {names}. Name the right one by itself")
    return candidates[0]
