"""What a store or a folder holds of the official files, and of what was converted from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.registry import detector_entry
from model_cache.settings import ModelSettings
from model_cache.store.files import read_store, sha256_of
from model_cache.store.manifest import (
    FILES_BY_ROLE,
    MODEL_SOURCES,
    OFFICIAL_FILES,
    UPSTREAM_DETECTORS,
    OfficialFile,
    official_file,
)
from ops.weights.settings import WeightSettings

Engine = Literal["official", "lite", "upstream"]
_CONFIGURED = frozenset({"hmr2", "pose_predictor"})  # models with a .json beside the tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a model or an official file.

    Attributes:
        text: names the files.
        lacking: official files that would mend it and are not there.
        damaged: whether files are there, but not what they should be.
    """

    text: str
    lacking: Sequence[OfficialFile] = ()
    damaged: bool = False


def model_problem(store: Path, model: str, *, hashes: bool) -> Problem | None:
    """What is wrong with a converted model, if anything.

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
    changed = [
        name
        for name in expected
        if name not in missing
        and (
            name not in recorded
            or (store / name).stat().st_size != recorded[name]["bytes"]
            or (hashes and sha256_of(store / name) != recorded[name]["sha256"])
        )
    ]
    sources = [FILES_BY_ROLE[role] for role in MODEL_SOURCES[model]]
    lacking = [file for file in sources if official_file(store, file) is None]
    if changed:
        text = f"{', '.join(changed)}: changed since it was written, or cut short"
        return Problem(text=text, lacking=lacking, damaged=True)
    if missing:
        made_of = ", ".join(file.name for file in sources)
        text = f"{', '.join(missing)}: not in the store (made from {made_of})"
        return Problem(text=text, lacking=lacking)
    return None


def upstream_files(detector: str) -> list[OfficialFile]:
    """What ENGINE=upstream opens below `official/`, with the detector that UPSTREAM_DETECTOR names."""
    own = UPSTREAM_DETECTORS.get(detector)
    return [*OFFICIAL_FILES, *([own] if own else [])]


def detector_files(
    models: ModelSettings, settings: WeightSettings, revisions: Mapping[str, str]
) -> tuple[OfficialFile, ...]:
    """The two files of the RF-DETR-Seg checkpoint on the hub, at the commit that its branch is pinned to.

    None if DETECTOR names a detector that needs no files.
    """
    if not detector_entry(models.detector).files:
        return ()
    name = Path(models.detector).name
    repository = settings.detector_repository or f"Roboflow/{name}"
    asked = settings.detector_revision
    revision = revisions.get(f"{repository}@{asked}", asked)
    address = f"{settings.hub_url.rstrip('/')}/{repository}/resolve/{revision}"
    return tuple(
        OfficialFile(
            role=role,
            purpose=f"person detector: {what}",
            path=f"{name}/{file_name}",
            patterns=(file_name,),
            addresses=(f"{address}/{file_name}",),
            licence="Apache-2.0",
            origin=f"the hub, {repository}",
            approximate_bytes=size,
        )
        for role, what, file_name, size in (
            ("detector_config", "its sizes", "config.json", None),
            ("detector_weights", "RF-DETR-Seg", "model.safetensors", 145_000_000),
        )
    )


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
    listed = [file for path in paths if path.is_dir() for file in files_below(path)]
    found = {}
    for source in OFFICIAL_FILES:
        ranked = by_rank(given, source) or by_rank(listed, source)
        if ranked:
            found[source.role] = _single([path for rank, path in ranked if rank == ranked[0][0]], source.role)
    needed = {role for model in models for role in MODEL_SOURCES[model]}
    missing = [source for source in OFFICIAL_FILES if source.role in needed - found.keys()]
    if missing:
        lines = [f"{source.patterns[0]} (from {source.origin})" for source in missing]
        raise WeightsMissing("official files not found: " + "; ".join(lines))
    return found


def files_below(folder: Path) -> list[Path]:
    """Every file of a folder and its subfolders, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def by_rank(paths: Iterable[Path], file: OfficialFile) -> list[tuple[int, Path]]:
    """The paths that go by one of the file's names, with the rank of the name, the preferred one first."""
    ranked = [(rank, path) for path in paths if (rank := file.rank(path.name)) is not None]
    return sorted(ranked, key=lambda pair: pair[0])


def _single(candidates: Sequence[Path], role: str) -> Path:
    """One file, when several are copies of each other (PHALP and HMR2 both ship some)."""
    if len(candidates) > 1 and len({sha256_of(path) for path in candidates}) > 1:
        names = ", ".join(str(path) for path in candidates)
        raise WeightsInvalid(f"several different files for `{role}`: {names}. Name the right one by itself")
    return candidates[0]
