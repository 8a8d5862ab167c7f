"""`weights fetch`: gets the files that the chosen engines lack and converts them."""

import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from model_cache.errors import StoreUnavailable, WeightsMissing
from model_cache.registry import detector_entry
from model_cache.settings import ModelSettings
from model_cache.store.files import read_checked
from model_cache.store.manifest import FILES_BY_ROLE, MODEL_SOURCES, OFFICIAL_FOLDER, OfficialFile, Precision
from ops.weights.inventory import Engine, detector_files, model_problem, upstream_files
from ops.weights.locations import SourceFailed, how_to_get
from ops.weights.lock import single_writer
from ops.weights.obtain import Listener, Obtainer
from ops.weights.settings import WeightSettings


def fetch(
    models: ModelSettings,
    settings: WeightSettings,
    listener: Listener,
    *,
    engines: Collection[Engine],
    parts: Collection[str],
    precision: Precision = "fp32",
    keep_official: bool = True,
    caches: Sequence[Path],
) -> list[str]:
    """Fetches and converts what is not in the store yet; returns the converted models.

    What can be had is fetched and converted even where another file is missing: a second run has less to do.

    Args:
        models: where the store is, and which detectors.
        settings: sources and limits.
        listener: receives the progress.
        engines: `official`, `upstream`, or both.
        parts: of `MODEL_SOURCES`, and `detector`.
        precision: of HMR2's backbone in the store.
        keep_official: whether the official files stay after conversion.
        caches: of the official packages, whose files need no download.

    Raises:
        WeightsMissing: a file could not be had; the message says which, where it was sought and what to do.
        WeightsInvalid: a file is not what it should be.
        StoreUnavailable: no room, no right to write, or another process is writing.
    """
    store = models.model_store
    failures: dict[str, str] = {}
    with single_writer(store, listener.say):
        to_convert = [
            model
            for model in MODEL_SOURCES
            if model in parts and "official" in engines and not _is_converted(store, model, precision)
        ]
        files = [FILES_BY_ROLE[role] for model in to_convert for role in MODEL_SOURCES[model]]
        if "upstream" in engines:
            files += [file for file in upstream_files(models.upstream_detector) if file not in files]
        num_files = len(files)
        try:
            obtainer = Obtainer(models, settings, caches, listener)
            found = _obtain_all(files, obtainer, failures)
            if "detector" in parts and _needs_our_detector(models, engines):
                for number in range(2):
                    # Anew for each: the first file pins the branch to a commit, of which the second must be.
                    file = detector_files(models, settings, obtainer.lock.revisions)[number]
                    num_files += 1
                    _obtain_all([file], obtainer, failures)
            with suppress(OSError):  # stays while something is on its way
                obtainer.partial_folder.rmdir()
            ready = [m for m in to_convert if all(role in found for role in MODEL_SOURCES[m])]
            if ready:
                from ops.weights.convert import convert  # brings torch, seconds

                listener.say(f"Converting {', '.join(ready)}")
                convert(list(found.values()), store, precision=precision, only=ready)
        except OSError as error:
            raise StoreUnavailable(f"the store {store} cannot be written: {error.strerror}") from error
        if not keep_official and "upstream" not in engines and not failures:
            shutil.rmtree(store / OFFICIAL_FOLDER, ignore_errors=True)
    if failures:
        others = "; the others are in the store" if len(failures) < num_files else ""
        head = f"{len(failures)} of {num_files} files could not be had{others}"
        raise WeightsMissing("\n- ".join([head, *failures.values()]))
    return ready


def _is_converted(store: Path, model: str, precision: Precision) -> bool:
    if model_problem(store, model, hashes=False):
        return False
    return model != "hmr2" or read_checked(store / "hmr2.json").get("precision") == precision


def _needs_our_detector(models: ModelSettings, engines: Collection[Engine]) -> bool:
    upstream = "upstream" in engines and models.upstream_detector == "native"
    return ("official" in engines or upstream) and bool(detector_entry(models.detector).files)


def _obtain_all(
    files: Sequence[OfficialFile], obtainer: Obtainer, failures: dict[str, str]
) -> dict[str, Path]:
    """Fetches the files that are not there; returns role -> file of all that are."""
    found = {file.role: path for file in files if (path := obtainer.present(file))}
    for file in files:
        if file.role not in found:
            try:
                found |= obtainer.obtain(file, [other for other in files if other.role not in found])
            except SourceFailed as error:
                name = file.path if file.of_detector else file.name
                failures[file.role] = f"{name}: {error}. {how_to_get(file)}"
    return found
