"""What a store or a folder holds of the official files, and of what was converted from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_cache.registry import detector_entry
from model_cache.settings import ModelSettings
from model_cache.store.files import read_store, sha256_of
from model_cache.store.manifest import (
    FILES_BY_ROLE,
    MODEL_SOURCES,
    OFFICIAL_FILES,
    OFFICIAL_FOLDER,
    UPSTREAM_DETECTORS,
    OfficialFile,
    official_file,
)
from ops.weights.settings import WeightSettings

Engine = Literal["official", "lite", "upstream"]
_CONFIGURED = frozenset({"hmr2", "pose_predictor"})  # models with a .json beside the tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a model or an official file."""

    text: str  # names the files
    lacking: Sequence[OfficialFile] = ()  # would mend it and are not there
    damaged: bool = False  # files are there, but not what they should be


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

    def is_changed(name: str) -> bool:
        path, facts = store / name, recorded.get(name)
        return (
            facts is None
            or path.stat().st_size != facts["bytes"]
            or (hashes and sha256_of(path) != facts["sha256"])
        )

    expected = [f"{model}.safetensors", *([f"{model}.json"] if model in _CONFIGURED else [])]
    missing = [name for name in expected if not (store / name).is_file()]
    changed = [name for name in expected if name not in missing and is_changed(name)]
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


def place_in_store(models: ModelSettings, file: OfficialFile) -> Path:
    """Where `fetch` puts an official file."""
    if file.of_detector:
        return models.model_store / models.detector / file.name
    return models.model_store / OFFICIAL_FOLDER / file.path


def files_below(folder: Path) -> list[Path]:
    """Every file of a folder and its subfolders, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def by_rank(paths: Iterable[Path], file: OfficialFile) -> list[tuple[int, Path]]:
    """The paths that go by one of the file's names, with the rank of the name, the preferred one first."""
    ranked = [(rank, path) for path in paths if (rank := file.rank(path.name)) is not None]
    return sorted(ranked, key=lambda pair: pair[0])
