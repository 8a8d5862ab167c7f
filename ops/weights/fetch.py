"""`weights fetch`: gets the files that the chosen engines lack and converts them."""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_cache.errors import StoreUnavailable, WeightsMissing
from model_cache.registry import detector_entry
from model_cache.settings import ModelSettings
from model_cache.store.files import read_checked
from model_cache.store.manifest import (
    FILES_BY_ROLE,
    MODEL_SOURCES,
    OFFICIAL_FOLDER,
    Precision,
    package_caches,
)
from ops.files import single_writer
from ops.weights.errors import SourceFailed
from ops.weights.inventory import Engine, detector_files, model_problem, upstream_files
from ops.weights.locations import how_to_get
from ops.weights.obtain import Listener, Obtainer, Wish, present
from ops.weights.settings import WeightSettings, WeightStorageSettings

PARTIAL_FOLDER = "partial"


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """What is asked for.

    Attributes:
        engines: `official`, `upstream`, or both.
        models: of `MODEL_SOURCES`, and `detector`.
        precision: of HMR2's backbone in the store.
        keep_official: whether the official files stay after conversion.
    """

    engines: Sequence[Engine] = ("official",)
    models: Collection[str] = (*MODEL_SOURCES, "detector")
    precision: Precision = "fp32"
    keep_official: bool = True


def fetch(
    models: ModelSettings,
    options: FetchOptions,
    settings: WeightSettings,
    storage: Callable[[], WeightStorageSettings],
    listener: Listener,
    *,
    caches: Sequence[Path] | None = None,
) -> list[str]:
    """Fetches and converts what is not in the store yet; returns the converted models.

    What can be had is fetched and converted even where another file is missing: a second run has less to do.

    Args:
        models: where the store is, and which detectors.
        options: what is asked for.
        settings: sources and limits.
        storage: gives the credentials of `s3://` sources when the first is met.
        listener: is told of the progress.
        caches: of the official packages; by default their own.

    Raises:
        WeightsMissing: a file could not be had; the message says which, where it was sought and what to do.
        WeightsInvalid: a file is not what it should be.
        StoreUnavailable: no room, no right to write, or another process is writing.
    """
    store = models.model_store
    with single_writer(store, listener.say):
        to_convert = _models_to_convert(store, options)
        failures: dict[str, str] = {}
        obtainer = Obtainer(
            settings,
            storage,
            partial_folder=store / PARTIAL_FOLDER,
            lock_path=settings.lock_file(store),
            folders=package_caches() if caches is None else caches,
            listener=listener,
        )
        try:
            with obtainer:
                found = _obtain_all(_wishes(models, options, to_convert), obtainer, failures)
                if _needs_our_detector(models, options):
                    _obtain_detector(models, settings, obtainer, failures)
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
        head = f"{len(failures)} files could not be had; the others are in the store."
        raise WeightsMissing("\n- ".join([head, *failures.values()]))
    return ready


def _needs_our_detector(models: ModelSettings, options: FetchOptions) -> bool:
    upstream = "upstream" in options.engines and models.upstream_detector == "native"
    wanted = "detector" in options.models and ("official" in options.engines or upstream)
    return wanted and bool(detector_entry(models.detector).files)


def _models_to_convert(store: Path, options: FetchOptions) -> list[str]:
    """Models asked for whose converted files are not whole, or of another precision."""
    if "official" not in options.engines:
        return []
    return [
        model
        for model in MODEL_SOURCES
        if model in options.models
        and (
            model_problem(store, model, hashes=False)
            or (model == "hmr2" and read_checked(store / "hmr2.json").get("precision") != options.precision)
        )
    ]


def _wishes(models: ModelSettings, options: FetchOptions, to_convert: Sequence[str]) -> dict[str, Wish]:
    roles = [role for model in to_convert for role in MODEL_SOURCES[model]]
    if "upstream" in options.engines:
        roles += [file.role for file in upstream_files(models.upstream_detector)]
    official = models.model_store / OFFICIAL_FOLDER
    return {
        role: Wish(file=FILES_BY_ROLE[role], target=official / FILES_BY_ROLE[role].path)
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
        found |= present({r: w for r, w in wishes.items() if r not in found}, obtainer.lock)
    return found


def _obtain_detector(
    models: ModelSettings, settings: WeightSettings, obtainer: Obtainer, failures: dict[str, str]
) -> None:
    for number in range(2):
        # Anew for each: the first file pins the branch to its commit, of which the second must be.
        file = detector_files(models, settings, obtainer.lock.revisions)[number]
        wish = Wish(file=file, target=models.model_store / models.detector / file.name)
        if present({file.role: wish}, obtainer.lock):
            continue
        try:
            obtainer.obtain(wish, ())
        except SourceFailed as error:
            failures[file.role] = f"{file.path}: {error}. {how_to_get(file)}"
