"""`weights list`: every official file with its purpose, terms and whereabouts."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from model_cache.settings import ModelSettings
from model_cache.store.manifest import (
    MODEL_SOURCES,
    OFFICIAL_FILES,
    UPSTREAM_DETECTORS,
    OfficialFile,
    official_file,
    package_caches,
)
from ops.weights.fetch import detector_manifest
from ops.weights.inventory import model_damage
from ops.weights.lock import LOCK_FILE, read_lock
from ops.weights.settings import WeightSettings


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
