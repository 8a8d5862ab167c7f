"""Finds the official files among folders and files, by their names. Knows nothing of what is inside."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.store.files import sha256_of
from model_cache.store.manifest import MODEL_SOURCES, OFFICIAL_FILES, OfficialFile


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
