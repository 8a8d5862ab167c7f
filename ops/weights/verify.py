"""`python -m model_cache verify`: what is missing or damaged, for which engine, in plain words.

Knows nothing of networks: it only looks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_cache.errors import WeightsInvalid
from model_cache.lite.files import CONFIG_FILE, FILES, LITE_FOLDER
from model_cache.settings import ModelSettings, WeightSettings
from model_cache.store.files import sha256_of
from model_cache.store.lock import LOCK_FILE, Lock, read_lock
from model_cache.store.manifest import MODEL_SOURCES, Engine, OfficialFile
from model_cache.store.state import (
    FILES_BY_ROLE,
    OFFICIAL_FOLDER,
    Damage,
    model_damage,
    official_file,
    package_caches,
    upstream_files,
)
from ops.weights.advice import FETCH, how_to_get_smpl
from ops.weights.errors import SourceFailed
from ops.weights.fetch import detector_manifest
from ops.weights.plausible import check_plausible

ENGINES: Mapping[Engine, str] = {
    "official": "our own inference with the official weights (MODELS=official)",
    "lite": "the bundled small models (MODELS=lite)",
    "upstream": "the official packages themselves (ENGINE=upstream)",
}
_REFETCH = f"What is damaged: delete it and run `{FETCH}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What keeps an engine from running.

    Attributes:
        problems: a line each; empty where the engine is ready.
        remedies: what to do about them, a sentence each.
    """

    problems: Sequence[str]
    remedies: Sequence[str]


def verify(
    models: ModelSettings,
    settings: WeightSettings,
    *,
    hashes: bool = True,
    folders: Sequence[Path] | None = None,
) -> dict[Engine, Verdict]:
    """What keeps each engine from running.

    Args:
        models: where the store is, and which detector.
        settings: where the lock file is.
        hashes: compare every file's SHA-256 with the one recorded when it was written (reads all of them).
        folders: caches of the official packages, beside the store's own copies.

    Raises:
        WeightsInvalid: the lock file is broken.
    """
    lock = read_lock(settings.lock or models.model_store / LOCK_FILE)
    places = package_caches() if folders is None else folders
    return {
        "official": official_verdict(models, settings, lock, hashes=hashes),
        "lite": _lite_verdict(),
        "upstream": _upstream_verdict(models, settings, lock, places, hashes=hashes),
    }


def official_verdict(models: ModelSettings, settings: WeightSettings, lock: Lock, *, hashes: bool) -> Verdict:
    """What our own inference lacks."""
    store = models.model_store
    problems, lacking = [], []
    try:
        for model in MODEL_SOURCES:
            if damage := model_damage(store, model, hashes=hashes):
                problems.append(_model_problem(model, damage))
                sources = [FILES_BY_ROLE[role] for role in MODEL_SOURCES[model]]
                lacking += [file for file in sources if official_file(store, file) is None]
    except WeightsInvalid as error:
        return Verdict(problems=[str(error)], remedies=[])
    problems += _detector_problems(models, settings, lock, hashes=hashes)
    remedies = [f"`{FETCH}` gets what is missing and converts it"] if problems else []
    return Verdict(problems=problems, remedies=remedies + _remedies(problems, lacking))


def _model_problem(model: str, damage: Damage) -> str:
    if damage.changed:
        return f"{', '.join(damage.changed)}: changed since it was written, or cut short"
    made_of = ", ".join(FILES_BY_ROLE[role].name for role in MODEL_SOURCES[model])
    return f"{', '.join(damage.missing)}: not in the store (made from {made_of})"


def _lite_verdict() -> Verdict:
    missing = [name for name in (*FILES.values(), CONFIG_FILE) if not (LITE_FOLDER / name).is_file()]
    return Verdict(
        problems=[f"{name}: not in the package" for name in missing],
        remedies=["Install this package again"] if missing else [],
    )


def _upstream_verdict(
    models: ModelSettings, settings: WeightSettings, lock: Lock, folders: Sequence[Path], *, hashes: bool
) -> Verdict:
    """What the official packages lack, apart from themselves."""
    store = models.model_store
    problems, lacking = [], []
    for file in upstream_files(models.upstream_detector):
        places = [official_file(store, file), *(folder / file.path for folder in folders)]
        if file.role.startswith("upstream_") and models.upstream_detector_weights:
            places = [models.upstream_detector_weights]
        path = next((path for path in places if path and path.is_file()), store / OFFICIAL_FOLDER / file.path)
        if problem := _file_problem(path, file, lock, hashes=hashes):
            problems.append(f"{file.path}: {problem}")
            lacking += [file] if problem == _NOT_THERE else []
    if models.upstream_detector == "native":
        problems += _detector_problems(models, settings, lock, hashes=hashes)
    remedies = [f"`{FETCH} --engine upstream` gets what is missing"] if problems else []
    return Verdict(problems=problems, remedies=remedies + _remedies(problems, lacking))


def _detector_problems(
    models: ModelSettings, settings: WeightSettings, lock: Lock, *, hashes: bool
) -> list[str]:
    found = [
        (file, _file_problem(models.model_store / models.detector / file.name, file, lock, hashes=hashes))
        for file in detector_manifest(models.detector, settings, lock.revisions)
    ]
    return [f"{file.path}: {problem}" for file, problem in found if problem]


_NOT_THERE = "not there"


def _file_problem(path: Path, file: OfficialFile, lock: Lock, *, hashes: bool) -> str | None:
    """What is wrong with an official file that is used as it is."""
    if not path.is_file():
        return _NOT_THERE
    if hashes and lock.differs(file.key, sha256_of(path)):
        return "another file than the one recorded"
    try:
        if hashes or file.role == "detector_weights":
            check_plausible(path, path.suffix)
    except SourceFailed as error:
        return str(error)
    return None


def _remedies(problems: Sequence[str], lacking: Sequence[OfficialFile]) -> list[str]:
    damaged = [p for p in problems if not p.endswith(_NOT_THERE) and "not in the store" not in p]
    by_hand = [how_to_get_smpl(file) for file in lacking if file.operator_only]
    return by_hand + ([_REFETCH] if damaged else [])
