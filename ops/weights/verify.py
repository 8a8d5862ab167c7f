"""What a store lacks for each engine, its recorded hashes, and the list of official files."""

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
    MODEL_SOURCES,
    OFFICIAL_FILES,
    UPSTREAM_DETECTORS,
    OfficialFile,
    official_file,
    package_caches,
)
from ops.weights.integrity import content_problem
from ops.weights.inventory import Engine, Problem, detector_files, model_problem, upstream_files
from ops.weights.locations import HMR2_DATA, how_to_get_smpl, setting_of
from ops.weights.lock import Lock, Locked, locked_now, read_lock, write_lock
from ops.weights.settings import WeightSettings

ENGINES: Mapping[Engine, str] = {
    "official": "our own inference with the official weights (MODELS=official)",
    "lite": "the bundled small models (MODELS=lite)",
    "upstream": "the official packages themselves (ENGINE=upstream)",
}


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
    caches: Sequence[Path] | None = None,
) -> dict[Engine, Verdict]:
    """What keeps each engine from running.

    Args:
        models: where the store is, and which detector.
        settings: where the lock file is.
        hashes: compare every file's SHA-256 with the one recorded when it was written (reads all of them).
        caches: of the official packages, whose files serve them beside the store's; by default their own.

    Raises:
        WeightsInvalid: the lock file is broken.
    """
    lock = read_lock(settings.lock_file(models.model_store))
    places = package_caches() if caches is None else caches
    return {
        "official": _official(models, settings, lock, hashes=hashes),
        "lite": _lite(),
        "upstream": _upstream(models, settings, lock, places, hashes=hashes),
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
    lock = read_lock(settings.lock_file(models.model_store))
    verdict = _official(models, settings, lock, hashes=False)
    head = f"the official weights are not complete: run `{FETCH}`"
    return "\n- ".join([head, *(verdict.problems or [str(error)]), *verdict.remedies[1:]])


def _official(models: ModelSettings, settings: WeightSettings, lock: Lock, *, hashes: bool) -> Verdict:
    store = models.model_store
    try:
        problems = [p for m in MODEL_SOURCES if (p := model_problem(store, m, hashes=hashes))]
    except WeightsInvalid as error:
        return Verdict(problems=[str(error)], remedies=[])
    problems += _detector_problems(models, settings, lock, hashes=hashes)
    return _verdict(problems, f"`{FETCH}` gets what is missing and converts it")


def _lite() -> Verdict:
    missing = [name for name in (*FILES.values(), CONFIG_FILE) if not (LITE_FOLDER / name).is_file()]
    problems = [Problem(text=f"{name}: not in the package") for name in missing]
    return _verdict(problems, "Install this package again")


def _upstream(
    models: ModelSettings, settings: WeightSettings, lock: Lock, caches: Sequence[Path], *, hashes: bool
) -> Verdict:
    """What the official packages lack, apart from themselves."""
    problems = []
    for file in upstream_files(models.upstream_detector):
        path = official_file(models.model_store, file, caches)
        if file.role in _UPSTREAM_ROLES and models.upstream_detector_weights:
            path = models.upstream_detector_weights
        problems += _file_problems(path, file, lock, hashes=hashes)
    if models.upstream_detector == "native":
        problems += _detector_problems(models, settings, lock, hashes=hashes)
    return _verdict(problems, f"`{FETCH} --engine upstream` gets what is missing")


_UPSTREAM_ROLES = frozenset(file.role for file in UPSTREAM_DETECTORS.values())


def _verdict(problems: Sequence[Problem], remedy: str) -> Verdict:
    by_hand = [how_to_get_smpl(file) for p in problems for file in p.lacking if file.operator_only]
    again = [f"What is damaged: delete it and run `{FETCH}`"] if any(p.damaged for p in problems) else []
    remedies = [remedy, *by_hand, *again] if problems else []
    return Verdict(problems=[p.text for p in problems], remedies=remedies)


def _detector_problems(
    models: ModelSettings, settings: WeightSettings, lock: Lock, *, hashes: bool
) -> list[Problem]:
    return [
        problem
        for file in detector_files(models, settings, lock.revisions)
        for problem in _file_problems(_place(models, file), file, lock, hashes=hashes)
    ]


def _file_problems(path: Path | None, file: OfficialFile, lock: Lock, *, hashes: bool) -> list[Problem]:
    """What is wrong with an official file that is used as it is: one problem or none."""
    if path is None or not path.is_file():
        return [Problem(text=f"{file.path}: not there", lacking=[file])]
    wrong = None
    if hashes and lock.differs(file.key, sha256_of(path)):
        wrong = "another file than the one recorded"
    elif hashes or file.role == "detector_weights":
        wrong = content_problem(path, path.suffix)
    return [Problem(text=f"{file.path}: {wrong}", damaged=True)] if wrong else []


def _place(models: ModelSettings, file: OfficialFile, caches: Sequence[Path] = ()) -> Path | None:
    """Where an official file lies, if it does."""
    if file.of_detector:
        path = models.model_store / models.detector / file.name
        return path if path.is_file() else None
    return official_file(models.model_store, file, caches)


def record(
    models: ModelSettings, settings: WeightSettings, *, accept: Collection[str] = ()
) -> tuple[Path, Mapping[str, Locked], list[str]]:
    """Adds files that were not recorded to the lock file, and replaces those of `accept`.

    Returns:
        The lock file, everything in it, and the keys of files that differ from it and were not accepted.

    Raises:
        WeightsMissing: a file to accept is not there.
        WeightsInvalid: the lock file is broken.
    """
    path = settings.lock_file(models.model_store)
    lock = read_lock(path)
    files = (*ALL_FILES, *detector_files(models, settings, lock.revisions))
    there = {file.key: (file, place) for file in files if (place := _place(models, file))}
    absent = set(accept) - there.keys()
    if absent:
        raise WeightsMissing(f"not there, so it cannot be accepted: {', '.join(sorted(absent))}")
    changed = []
    for key, (file, place) in there.items():
        sha256 = sha256_of(place)
        if lock.differs(key, sha256) and key not in accept:
            changed.append(key)
        elif key not in lock.files or lock.differs(key, sha256):
            lock = lock.with_file(key, locked_now(file.name, sha256, place.stat().st_size))
    write_lock(path, lock)
    return path, lock.files, changed


def listing(models: ModelSettings, settings: WeightSettings, caches: Sequence[Path] | None = None) -> Table:
    """Every official file with its purpose, state, source and terms, one row each."""
    store = models.model_store
    lock = read_lock(settings.lock_file(store))
    places = package_caches() if caches is None else caches
    done = [m for m in MODEL_SOURCES if not model_problem(store, m, hashes=False)]
    converted = {role for m in done for role in MODEL_SOURCES[m]}
    table = Table("file", "for", "size", "state", "sha256", "source", "licence")
    detector = detector_files(models, settings, lock.revisions)
    for file in (*OFFICIAL_FILES, *detector, *UPSTREAM_DETECTORS.values()):
        path = _place(models, file, places)
        known = lock.files.get(file.key)
        size = path.stat().st_size if path else known.bytes if known else file.approximate_bytes
        table.add_row(
            file.name,
            file.purpose + (" (ENGINE=upstream only)" if file.role in _UPSTREAM_ROLES else ""),
            f"{'' if path or known else 'about '}{size / 1e6:.1f} MB" if size else "?",
            "converted" if file.role in converted else "there" if path else "missing",
            known.sha256 if known else "not recorded yet",
            _source(file, settings),
            file.licence,
        )
    return table


def _source(file: OfficialFile, settings: WeightSettings) -> str:
    """Where `fetch` would ask first; an operator's own source is named by its setting, it may be a secret."""
    if settings.source(file.role):
        return setting_of(file.role)
    if file.archive and settings.hmr2_data:
        return setting_of(HMR2_DATA)
    if settings.mirror:
        return "WEIGHTS_MIRROR"
    return file.addresses[0] if file.addresses else f"you: {file.origin}"
