"""`python -m handler weights verify`: what is missing or damaged, for which engine, in plain words.

Knows nothing of networks: it only looks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.lite.files import CONFIG_FILE, FILES, LITE_FOLDER
from model_cache.settings import ModelSettings
from model_cache.store.files import sha256_of
from model_cache.store.manifest import (
    ALL_FILES,
    FETCH,
    FILES_BY_ROLE,
    MODEL_SOURCES,
    OFFICIAL_FILES,
    OFFICIAL_FOLDER,
    UPSTREAM_DETECTORS,
    Engine,
    OfficialFile,
    official_file,
    package_caches,
)
from ops.weights.advice import how_to_get_smpl
from ops.weights.answers import SourceFailed
from ops.weights.fetch import detector_manifest
from ops.weights.integrity import check_plausible
from ops.weights.inventory import Damage, model_damage, upstream_files
from ops.weights.lock import LOCK_FILE, Lock, Locked, locked_now, read_lock, write_lock
from ops.weights.settings import WeightSettings

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


def all_that_is_missing(models: ModelSettings, error: WeightsMissing) -> str:
    """What to tell an operator whose worker found no weights: every missing file at once, and the command.

    Args:
        models: which were to be loaded, from where.
        error: what loading met first.

    Raises:
        WeightsInvalid: the lock file is broken.
    """
    if models.models != "official" or models.engine != "native":
        return str(error)
    settings = WeightSettings()
    lock = read_lock(settings.lock or models.model_store / LOCK_FILE)
    verdict = official_verdict(models, settings, lock, hashes=False)
    head = f"the official weights are not complete: run `{FETCH}`"
    return "\n- ".join([head, *(verdict.problems or [str(error)]), *verdict.remedies[1:]])


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


def record(
    models: ModelSettings, settings: WeightSettings, *, accept: Collection[str] = ()
) -> tuple[Path, Mapping[str, Locked], list[str]]:
    """Adds files that were not recorded, and replaces those of `accept`.

    Returns:
        The lock file, everything in it, and the keys of files that differ from it and were not accepted.

    Raises:
        WeightsMissing: a file to accept is not there.
        WeightsInvalid: the lock file is broken.
    """
    store = models.model_store
    path = settings.lock or store / LOCK_FILE
    lock = read_lock(path)
    there = {file: official_file(store, file) for file in ALL_FILES}
    for file in detector_manifest(models.detector, settings, lock.revisions):
        there[file] = store / models.detector / file.name
    files = {file.key: (file, place) for file, place in there.items() if place and place.is_file()}
    absent = set(accept) - files.keys()
    if absent:
        raise WeightsMissing(f"not there, so it cannot be accepted: {', '.join(sorted(absent))}")
    changed = []
    for key, (file, place) in files.items():
        sha256 = sha256_of(place)
        if lock.differs(key, sha256) and key not in accept:
            changed.append(key)
        elif key not in lock.files or lock.differs(key, sha256):
            lock = lock.with_file(key, locked_now(file.name, sha256, place.stat().st_size))
    write_lock(path, lock)
    return path, lock.files, changed


def listing(models: ModelSettings, settings: WeightSettings, folders: Sequence[Path] | None = None) -> Table:
    """The table: one row a file."""
    store = models.model_store
    lock = read_lock(settings.lock or store / LOCK_FILE)
    places = package_caches() if folders is None else folders
    table = Table("file", "for", "size", "state", "sha256", "source", "licence")
    converted = {role: m for m, roles in MODEL_SOURCES.items() for role in roles}
    done = {m for m in MODEL_SOURCES if not model_damage(store, m, hashes=False)}
    detector = detector_manifest(models.detector, settings, lock.revisions)
    for file in (*OFFICIAL_FILES, *detector, *UPSTREAM_DETECTORS.values()):
        path = _path(store, file, models.detector, places)
        known = lock.files.get(file.key)
        size = path.stat().st_size if path else known.bytes if known else file.approximate_bytes
        state = "converted" if converted.get(file.role) in done else "there" if path else "missing"
        engines = " (ENGINE=upstream only)" if file.role.startswith("upstream_") else ""
        table.add_row(
            file.name,
            file.purpose + engines,
            f"{'' if path or known else 'about '}{size / 1e6:.1f} MB" if size else "?",
            state,
            known.sha256 if known else "not recorded yet",
            _source(file, settings),
            file.licence,
        )
    return table


def _path(store: Path, file: OfficialFile, detector: str, folders: Sequence[Path]) -> Path | None:
    if file.role.startswith("detector_"):
        path = store / detector / file.name
        return path if path.is_file() else None
    elsewhere = (folder / file.path for folder in folders)
    return official_file(store, file) or next((path for path in elsewhere if path.is_file()), None)


def _source(file: OfficialFile, settings: WeightSettings) -> str:
    """Where `fetch` would ask first; an operator's own source is named by its setting, it may be a secret."""
    if settings.source(file.role):
        return f"WEIGHTS_{file.role.upper()}"
    if file.archive and settings.hmr2_data:
        return "WEIGHTS_HMR2_DATA"
    if settings.mirror:
        return "WEIGHTS_MIRROR"
    return file.addresses[0] if file.addresses else f"you: {file.origin}"
