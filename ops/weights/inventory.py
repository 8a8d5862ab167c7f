"""What a store holds and lacks, model by model and file by file. Knows nothing of sources or networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_cache.store.files import read_store, sha256_of
from model_cache.store.manifest import OFFICIAL_FILES, UPSTREAM_DETECTORS, OfficialFile

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
