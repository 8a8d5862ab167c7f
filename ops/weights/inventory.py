"""What a store holds of the official files and what was converted from them, and what each engine lacks."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.lite.files import CONFIG_FILE, FILES, LITE_FOLDER
from model_cache.registry import HMR2, detector_entry
from model_cache.settings import ModelSettings
from model_cache.store.files import read_store, sha256_of
from model_cache.store.manifest import (
    ALL_FILES,
    FETCH,
    FILES_BY_ROLE,
    MODEL_SOURCES,
    OFFICIAL_FILES,
    OFFICIAL_FOLDER,
    UPSTREAM_DETECTORS,
    OfficialFile,
    official_file,
)
from ops.weights.content import content_problem
from ops.weights.locations import HMR2_DATA, first_source, how_to_get, setting_of
from ops.weights.lock import Locked, read_lock, write_lock
from ops.weights.settings import WeightSettings

Engine = Literal["official", "lite", "upstream"]
_CONFIGURED = frozenset({"hmr2", "pose_predictor"})  # models with a .json beside the tensors
ENGINES: Mapping[Engine, str] = {
    "official": "our own inference with the official weights (MODELS=official)",
    "lite": "the bundled small models (MODELS=lite)",
    "upstream": "the official packages themselves (ENGINE=upstream)",
}
_UPSTREAM_ROLES = frozenset(file.role for file in UPSTREAM_DETECTORS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with a model or an official file."""

    text: str  # names the files
    lacking: Sequence[OfficialFile] = ()  # would mend it and are not there
    damaged: bool = False  # files are there, but not what they should be


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What keeps an engine from running."""

    problems: Sequence[str]  # a line each; empty where the engine is ready
    remedies: Sequence[str]  # what to do about them, a sentence each


def model_problem(store: Path, model: str, *, hashes: bool) -> Problem | None:
    """What is wrong with a converted model, if anything; with `hashes` its files are read whole.

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


def needed_models(models: ModelSettings) -> list[str]:
    """The converted models that our engine loads: HMR2 only if no other body regressor takes its place."""
    return [name for name in MODEL_SOURCES if name != HMR2 or models.body_regressor == HMR2]


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


def verify(
    models: ModelSettings,
    settings: WeightSettings,
    caches: Sequence[Path],
    engines: Collection[Engine],
    *,
    hashes: bool = True,
) -> dict[Engine, Verdict]:
    """What keeps each of the engines from running.

    Args:
        models: where the store is, and which detector.
        settings: where the lock file is.
        caches: of the official packages, whose files serve them beside the store's.
        engines: to look at.
        hashes: compare every file's SHA-256 with the one recorded when it was written (reads all of them).

    Raises:
        WeightsInvalid: the lock file is broken.
    """
    check = _Check(models, settings, hashes=hashes)
    look: Mapping[Engine, Callable[[], Verdict]] = {
        "official": check.official,
        "lite": check.lite,
        "upstream": lambda: check.upstream(caches),
    }
    return {engine: look[engine]() for engine in engines}


def check_official(models: ModelSettings) -> None:
    """Look whether a worker has the official files that it needs; their contents are not read.

    Raises:
        WeightsMissing: names every missing or damaged file at once, and the command.
        WeightsInvalid: the lock file is broken.
    """
    verdict = _Check(models, WeightSettings(), hashes=False).official()
    if verdict.problems:
        head = f"the official weights are not complete: run `{FETCH}`"
        raise WeightsMissing("\n- ".join([head, *verdict.problems, *verdict.remedies[1:]]))


class _Check:
    """Looks at the files of a store, and at their contents with `hashes`."""

    def __init__(self, models: ModelSettings, settings: WeightSettings, *, hashes: bool) -> None:
        self._models = models
        self._hashes = hashes
        self._lock = read_lock(settings.lock_file(models.model_store))
        self._detector = detector_files(models, settings, self._lock.revisions)

    def official(self) -> Verdict:
        store = self._models.model_store
        try:
            found = [model_problem(store, m, hashes=self._hashes) for m in needed_models(self._models)]
        except WeightsInvalid as error:
            return Verdict(problems=[str(error)], remedies=[])
        problems = [problem for problem in found if problem] + self._detector_problems()
        return _verdict(problems, f"`{FETCH}` gets what is missing and converts it")

    def lite(self) -> Verdict:
        missing = [name for name in (*FILES.values(), CONFIG_FILE) if not (LITE_FOLDER / name).is_file()]
        problems = [Problem(text=f"{name}: not in the package") for name in missing]
        return _verdict(problems, "Install this package again")

    def upstream(self, caches: Sequence[Path]) -> Verdict:
        """What the official packages lack, apart from themselves."""
        problems = []
        for file in upstream_files(self._models.upstream_detector):
            path = _find(self._models, file, caches)
            if file.role in _UPSTREAM_ROLES and self._models.upstream_detector_weights:
                path = self._models.upstream_detector_weights
            problems += self._file_problems(path, file)
        if self._models.upstream_detector == "native":
            problems += self._detector_problems()
        return _verdict(problems, f"`{FETCH} --engine upstream` gets what is missing")

    def _detector_problems(self) -> list[Problem]:
        return [p for file in self._detector for p in self._file_problems(_find(self._models, file), file)]

    def _file_problems(self, path: Path | None, file: OfficialFile) -> list[Problem]:
        """What is wrong with an official file that is used as it is: one problem or none."""
        if path is None or not path.is_file():
            return [Problem(text=f"{file.path}: not there", lacking=[file])]
        wrong = None
        if self._hashes and self._lock.differs(file.key, sha256_of(path)):
            wrong = "another file than the one recorded"
        elif self._hashes or file.role == "detector_weights":
            wrong = content_problem(path, path.suffix)
        return [Problem(text=f"{file.path}: {wrong}", damaged=True)] if wrong else []


def _verdict(problems: Sequence[Problem], remedy: str) -> Verdict:
    by_hand = [how_to_get(file) for p in problems for file in p.lacking if file.operator_only]
    again = [f"What is damaged: delete it and run `{FETCH}`"] if any(p.damaged for p in problems) else []
    remedies = [remedy, *by_hand, *again] if problems else []
    return Verdict(problems=[p.text for p in problems], remedies=remedies)


def _find(models: ModelSettings, file: OfficialFile, caches: Sequence[Path] = ()) -> Path | None:
    """Where an official file lies, if it does."""
    if file.of_detector:
        path = place_in_store(models, file)
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
    lock_path = settings.lock_file(models.model_store)
    lock = read_lock(lock_path)
    files = (*ALL_FILES, *detector_files(models, settings, lock.revisions))
    there = {file.key: (file, path) for file in files if (path := _find(models, file))}
    absent = set(accept) - there.keys()
    if absent:
        raise WeightsMissing(f"not there, so it cannot be accepted: {', '.join(sorted(absent))}")
    changed = []
    for key, (file, path) in there.items():
        sha256 = sha256_of(path)
        if lock.differs(key, sha256) and key not in accept:
            changed.append(key)
        elif key not in lock.files or lock.differs(key, sha256):
            lock = lock.with_file(file, sha256, path.stat().st_size)
    if lock.files:
        write_lock(lock_path, lock)
    return lock_path, lock.files, changed


def listing(models: ModelSettings, settings: WeightSettings, caches: Sequence[Path]) -> Iterator[str]:
    """Every official file as lines: state and size, purpose, setting, source, terms, hash."""
    store = models.model_store
    lock = read_lock(settings.lock_file(store))
    done = [m for m in MODEL_SOURCES if not model_problem(store, m, hashes=False)]
    converted = {role for m in done for role in MODEL_SOURCES[m]}
    detector = detector_files(models, settings, lock.revisions)
    for file in (*OFFICIAL_FILES, *detector, *UPSTREAM_DETECTORS.values()):
        path = _find(models, file, caches)
        known = lock.files.get(file.key)
        size = path.stat().st_size if path else known.bytes if known else file.approximate_bytes
        about = f", {'' if path or known else 'about '}{size / 1e6:.1f} MB" if size else ""
        state = "converted" if file.role in converted else "there" if path else "missing"
        settings_of = [setting_of(name) for name in (file.role, HMR2_DATA if file.archive else None) if name]
        yield f"{file.name}: {state}{about}"
        yield f"  for      {file.purpose}{' (ENGINE=upstream only)' if file.role in _UPSTREAM_ROLES else ''}"
        yield f"  from     {first_source(file, settings)}"
        yield f"  setting  {' or '.join(settings_of)}"
        yield f"  licence  {file.licence}"
        yield f"  sha256   {known.sha256 if known else 'not recorded yet'}"
