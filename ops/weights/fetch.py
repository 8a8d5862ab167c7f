"""`python -m model_cache fetch`: gets what the chosen engines lack and converts it. Knows nothing of jobs."""

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_cache.errors import StoreUnavailable, WeightsMissing
from model_cache.registry import detector_entry
from model_cache.settings import WeightSettings, WeightStorageSettings
from model_cache.store.lock import LOCK_FILE
from model_cache.store.manifest import MODEL_SOURCES, Engine, OfficialFile, Precision, detector_files
from model_cache.store.state import (
    FILES_BY_ROLE,
    OFFICIAL_FOLDER,
    model_damage,
    package_caches,
    upstream_files,
)
from ops.weights.advice import how_to_get
from ops.weights.answers import SourceFailed
from ops.weights.obtain import Listener, Obtainer, Wish, present
from ops.weights.writer import single_writer

PARTIAL_FOLDER = "partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """What is asked for.

    Attributes:
        detector: name (or absolute path) of the detector's folder.
        engines: `official`, `upstream`, or both.
        upstream_detector: of ENGINE=upstream: one of PHALP's own, or `native` for ours.
        models: of `MODEL_SOURCES`, and `detector`.
        precision: of HMR2's backbone in the store.
        keep_official: whether the official files stay after conversion.
    """

    detector: str
    engines: tuple[Engine, ...] = ("official",)
    upstream_detector: str = "native"
    models: Collection[str] = (*MODEL_SOURCES, "detector")
    precision: Precision = "fp32"
    keep_official: bool = True


def fetch(
    store: Path,
    options: FetchOptions,
    settings: WeightSettings,
    storage: Callable[[], WeightStorageSettings],
    listener: Listener,
    *,
    folders: Sequence[Path] | None = None,
) -> list[str]:
    """Fetches and converts what is not in the store yet; returns the converted models.

    What can be had is fetched and converted even where another file is missing: a second run has less to do.

    Raises:
        WeightsMissing: a file could not be had; the message says which, where it was sought and what to do.
        WeightsInvalid: a file is not what it should be.
        StoreUnavailable: no room, no right to write, or another process is writing.
    """
    with single_writer(store, settings.wait_seconds, listener.say):
        to_convert = _models_to_convert(store, options)
        wishes = _wishes(store, options, to_convert)
        failures: dict[str, str] = {}
        obtainer = Obtainer(
            settings,
            storage,
            partial_folder=store / PARTIAL_FOLDER,
            lock_path=settings.lock or store / LOCK_FILE,
            folders=package_caches() if folders is None else folders,
            listener=listener,
        )
        try:
            with obtainer:
                found = _obtain_all(wishes, obtainer, failures)
                if _needs_our_detector(options):
                    _obtain_detector(store, options, settings, obtainer, failures)
            ready = [m for m in to_convert if all(role in found for role in MODEL_SOURCES[m])]
            if ready:
                from ops.weights.convert import convert  # brings torch, seconds

                listener.say(f"Converting {', '.join(ready)}")
                convert(list(found.values()), store, precision=options.precision, only=ready)
        except OSError as error:
            raise StoreUnavailable(f"the store {store} cannot be written: {error.strerror}") from error
        if not options.keep_official and "upstream" not in options.engines and not failures:
            shutil.rmtree(store / OFFICIAL_FOLDER, ignore_errors=True)
    if failures:
        raise WeightsMissing(_sentence(failures))
    return ready


def _needs_our_detector(options: FetchOptions) -> bool:
    upstream = "upstream" in options.engines and options.upstream_detector == "native"
    wanted = "detector" in options.models and ("official" in options.engines or upstream)
    return wanted and bool(detector_entry(options.detector).files)


def _models_to_convert(store: Path, options: FetchOptions) -> list[str]:
    """Models asked for whose converted files are not whole, or of another precision."""
    if "official" not in options.engines:
        return []
    models = [m for m in MODEL_SOURCES if m in options.models]
    wanting = [m for m in models if model_damage(store, m, hashes=False)]
    if "hmr2" in models and "hmr2" not in wanting and _precision(store) != options.precision:
        wanting.insert(0, "hmr2")
    return wanting


def _precision(store: Path) -> str | None:
    content = json.loads((store / "hmr2.json").read_bytes())
    return str(content.get("precision"))


def _wishes(store: Path, options: FetchOptions, to_convert: Sequence[str]) -> dict[str, Wish]:
    roles = [role for model in to_convert for role in MODEL_SOURCES[model]]
    if "upstream" in options.engines:
        roles += [file.role for file in upstream_files(options.upstream_detector)]
    return {
        role: Wish(file=FILES_BY_ROLE[role], target=store / OFFICIAL_FOLDER / FILES_BY_ROLE[role].path)
        for role in dict.fromkeys(roles)
    }


def _obtain_all(wishes: Mapping[str, Wish], obtainer: Obtainer, failures: dict[str, str]) -> dict[str, Path]:
    """Fetches the wishes that are not fulfilled; returns role -> file of all that are there."""
    found = present(wishes, obtainer.lock)
    for role, wish in wishes.items():
        if role in found:
            continue
        try:
            obtainer.obtain(wish, [w for r, w in wishes.items() if r not in found and r != role])
        except SourceFailed as error:
            failures[role] = f"{wish.file.name}: {error}. {how_to_get(wish.file)}"
        found = {**found, **present({r: w for r, w in wishes.items() if r not in found}, obtainer.lock)}
    return found


def _obtain_detector(
    store: Path,
    options: FetchOptions,
    settings: WeightSettings,
    obtainer: Obtainer,
    failures: dict[str, str],
) -> None:
    for number in range(2):
        # Anew for each: the first file pins the branch to its commit, of which the second must be.
        file = detector_manifest(options.detector, settings, obtainer.lock.revisions)[number]
        wish = Wish(file=file, target=store / options.detector / file.name)
        if present({file.role: wish}, obtainer.lock):
            continue
        try:
            obtainer.obtain(wish, ())
        except SourceFailed as error:
            failures[file.role] = f"{file.path}: {error}. {how_to_get(file)}"


def detector_manifest(
    detector: str, settings: WeightSettings, revisions: Mapping[str, str]
) -> tuple[OfficialFile, ...]:
    """The detector's two files, at the commit that its branch was pinned to; none if it needs none."""
    if not detector_entry(detector).files:
        return ()
    name = Path(detector).name
    repository = settings.detector_repository or f"Roboflow/{name}"
    asked = settings.detector_revision
    revision = revisions.get(f"{repository}@{asked}", asked)
    return detector_files(name, repository, revision, settings.hub_url)


def _sentence(failures: Mapping[str, str]) -> str:
    lines = [f"{len(failures)} files could not be had; the others are in the store."]
    return "\n- ".join([*lines, *failures.values()])
