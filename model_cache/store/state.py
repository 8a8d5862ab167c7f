"""What a store holds and lacks, model by model and file by file. Knows nothing of sources or networks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_cache.store.files import read_store, sha256_of
from model_cache.store.manifest import (
    OFFICIAL_FILES,
    UPSTREAM_DETECTORS,
    OfficialFile,
)

OFFICIAL_FOLDER = "official"  # below the store, laid out as the official packages' ~/.cache
ALL_FILES = (*OFFICIAL_FILES, *UPSTREAM_DETECTORS.values())
FILES_BY_ROLE: Mapping[str, OfficialFile] = {file.role: file for file in ALL_FILES}
_CONFIGURED = frozenset({"hmr2", "pose_predictor"})  # models with a .json beside the tensors


def package_caches() -> tuple[Path, ...]:
    """Where 4D-Humans and PHALP, and detectron2 for them, keep their downloads."""
    return (Path.home() / ".cache", Path.home() / ".torch" / "iopath_cache")


def official_file(store: Path, file: OfficialFile) -> Path | None:
    """An official file in the store, under any of its suffixes (SMPL comes as .pkl or .npz)."""
    path = store / OFFICIAL_FOLDER / file.path
    if path.is_file():
        return path
    others = (path.with_suffix(suffix) for suffix in (".npz", ".pkl") if file.operator_only)
    return next((other for other in others if other.is_file()), None)


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
